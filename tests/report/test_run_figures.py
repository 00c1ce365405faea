"""The figures of a run, whatever its sites are."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pyro_dwp.report import draw_run
from pyro_dwp.report.run_figures import by_group
from pyro_dwp.sites import WeightSite, weight_sites

HISTORY = [{"epoch": 1, "train/loss": 1.0}, {"epoch": 2, "train/loss": 0.5}]


def given(*layers: nn.Module) -> tuple[dict[str, Tensor], dict[str, WeightSite]]:
    network = nn.Sequential(*layers)
    sites = weight_sites(network, expose=lambda site: True)
    return {name: network.get_parameter(name) for name in sites}, sites


def test_kernels_are_sorted_by_group_and_what_has_none_is_left_out() -> None:
    layers = (
        nn.Conv3d(1, 4, 3),
        nn.InstanceNorm3d(4, affine=True),
        nn.Conv3d(4, 2, 3),
        nn.Conv3d(2, 3, 1),
        nn.Linear(3, 2),
    )
    weights, sites = given(*layers)
    found = by_group(weights, sites)
    assert {group: tuple(kernels.shape) for group, kernels in found.items()} == {
        "3x3x3": (4 + 8, 3, 3, 3),
        "1x1x1": (6, 1, 1, 1),
    }
    assert torch.equal(found["3x3x3"][4:].reshape(2, 4, 3, 3, 3), weights["2.weight"])


@pytest.mark.parametrize(
    ("layers", "files"),
    [
        ([nn.Conv3d(1, 4, 3), nn.Conv3d(4, 2, 1)], {"learning_curves.png", "kernels.png"}),
        ([nn.Conv2d(1, 4, 3)], {"learning_curves.png", "kernels.png"}),
        ([nn.Linear(3, 2)], {"learning_curves.png"}),
    ],
    ids=["volumes", "planes", "no kernels"],
)
def test_a_run_is_drawn_with_its_kernels_if_it_has_any(
    layers: list[nn.Module], files: set[str], tmp_path: Path
) -> None:
    weights, sites = given(*layers)
    draw_run(tmp_path, HISTORY, weights, weights, sites)
    assert {path.name for path in (tmp_path / "figures").iterdir()} == files
