from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pyro_dwp.predict import CaseReview, Prediction, ScoredCase
from pyro_dwp.priors import Gaussian
from pyro_dwp.report import draw_run
from pyro_dwp.report.run_figures import by_group
from pyro_dwp.sites import weight_sites

HISTORY = [{"epoch": 1, "train/loss": 1.0}, {"epoch": 2, "train/loss": 0.5}]
CONVOLUTIONS = [nn.Conv3d(1, 4, 3), nn.InstanceNorm3d(4, affine=True), nn.Conv3d(4, 2, 3), nn.Conv3d(2, 3, 1)]


def case() -> ScoredCase:
    scan = SimpleNamespace(name="head", image=torch.rand(1, 4, 4, 4), spacing=(1.0, 1.0, 1.0))
    truth, probability = torch.ones(4, 4, 4, dtype=torch.int64), torch.full((3, 4, 4, 4), 1 / 3)
    prediction, review = Prediction(probability, truth * 0.5, truth * 0.1), CaseReview("head", {}, 0.0, ())
    return ScoredCase(scan, truth, prediction, {"lesion": (1, 2)}, {"dice": 0.5}, review, ("core", "rim"))


@pytest.mark.parametrize(
    ("layers", "shapes"),
    [
        ([*CONVOLUTIONS, nn.Linear(3, 2)], {"3x3x3": (12, 3, 3, 3), "1x1x1": (6, 1, 1, 1)}),
        ([nn.Conv2d(1, 4, 3)], {"3x3": (4, 3, 3)}),
        ([nn.Linear(3, 2)], {}),
    ],
    ids=["volumes", "planes", "no kernels"],
)
def test_a_run_is_drawn_with_its_spatial_kernels_by_group(layers: list, shapes: dict, tmp_path: Path) -> None:
    network = nn.Sequential(*layers)
    sites = weight_sites(network, expose=lambda site: True)
    weights = {name: network.get_parameter(name) for name in sites}
    found = by_group(weights, sites)
    assert {group: tuple(kernels.shape) for group, kernels in found.items()} == shapes
    if "3x3x3" in found:
        assert torch.equal(found["3x3x3"][4:].reshape(2, 4, 3, 3, 3), weights["2.weight"])
    draw_run(tmp_path, HISTORY, [case()], sites, weights, Gaussian())
    expected = {"head.png", "learning_curves.png"} | ({"kernels.png"} if shapes else set())
    assert {path.name for path in (tmp_path / "figures").iterdir()} == expected
