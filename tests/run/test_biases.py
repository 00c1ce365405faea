"""A network whose biases are random, too: through the script, its figures, and the prediction of another process."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from pyro_dwp.data import Phantoms, write_volume

Call = Callable[..., Any]
GUIDES = ["mean_field", "kernel_covariance", "ensemble"]
MINE = '''
import pyro.distributions as dist
import torch
from torch import nn

from pyro_dwp.priors import PriorFamily


class Biased(nn.Module):
    """Convolutions with biases around a normalisation, whose bias is 0 in a new network."""

    in_channels, classes = 1, 2

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv3d(1, 4, 3, padding=1)
        self.norm = nn.InstanceNorm3d(4, affine=True)
        self.last = nn.Conv3d(4, 2, 1)

    def forward(self, image):
        return self.last(self.norm(self.first(image)).relu())


class Everything(PriorFamily):
    """Laplace over every parameter."""

    def exposes(self, site):
        return True

    def distribution(self, site):
        return dist.Laplace(torch.zeros(site.kernel_shape), 0.3).to_event(len(site.kernel_shape))
'''


@pytest.fixture
def flags(tmp_path: Path, phantom_flags: list[str]) -> list[str]:
    (tmp_path / "mine.py").write_text(MINE)
    size = ["--preprocess.grid", "[16,16,16]", "--train", "2", "--validation", "1", "--test", "1", "--samples", "3"]
    mine = ["--network", "mine.py:Biased", "--prior", "mine.py:Everything", "--name", "run", "--threads", "1"]
    return [*phantom_flags, *size, *mine, "--schedule.epochs", "1"]


def test_it_is_inferred_and_drawn_and_its_scores_are_kept(finished: Call, tmp_path: Path, flags: list[str]) -> None:
    finished(tmp_path, "svi_target", *flags, "--guide", "mean_field")
    folder = tmp_path / "runs" / "run"
    assert json.loads((folder / "sites.json").read_text())["norm.bias"] == [4]
    assert {"kernels.png", "learning_curves.png"} < {path.name for path in (folder / "figures").iterdir()}
    assert json.loads((folder / "metrics.json").read_text())["test"]["count"] == 1


@pytest.mark.parametrize("guide", GUIDES)
def test_another_process_predicts_with_it_what_the_run_did(
    finished: Call, no_figures: None, tmp_path: Path, flags: list[str], guide: str
) -> None:
    finished(tmp_path, "svi_target", *flags, "--guide", guide)
    folder = tmp_path / "runs" / "run"
    name = json.loads((folder / "split.json").read_text())["test"][0]
    scan = Phantoms(cases=6, shape=(16, 16, 16)).load(name)
    write_volume(tmp_path / f"{name}.nii.gz", scan.image[0], scan.affine, np.float32)
    finished(tmp_path, "predict", "--run", folder, "--images", tmp_path / f"{name}.nii.gz", "--output", "maps")
    ours, theirs = (nib.load(at / f"{name}_probability.nii.gz") for at in (tmp_path / "maps", folder / "predictions"))
    assert np.ptp(ours.get_fdata()) > 0
    assert np.allclose(ours.get_fdata(), theirs.get_fdata(), atol=1e-5)


@pytest.mark.parametrize("broken", ["pyro_dwp.report.run_figures.kernels", "pyro_dwp.report.run_figures.slices"])
def test_a_figure_that_fails_costs_no_scores(
    call: Call, no_figures: None, tmp_path: Path, flags: list[str], monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def fail(*arguments: Any, **settings: Any) -> None:
        raise RuntimeError("no figure")

    monkeypatch.setattr(broken, fail)
    with pytest.raises(RuntimeError, match="no figure"):
        call(tmp_path, "svi_target", *flags)
    assert json.loads((tmp_path / "runs" / "run" / "metrics.json").read_text())["test"]["count"] == 1
