"""What can be swapped: priors, guides, networks and settings, ours and a user's own. Each is inferred, and predicts elsewhere."""

import json
import math
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

Call = Callable[..., Any]
EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
MINE = """
import pyro.distributions as dist
import torch
from pyro.infer.autoguide import AutoDiagonalNormal
from torch import nn
from pyro_dwp.priors import Prior

class Biased(nn.Module):
    in_channels, classes = 1, 2

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Conv3d(1, 4, 3, padding=1), nn.InstanceNorm3d(4, affine=True), nn.Conv3d(4, 2, 1)

    def forward(self, image):
        return self.last(self.norm(self.first(image)).relu())

class Everything(Prior):
    def exposes(self, site):
        return True

    def distribution(self, site):
        return dist.Laplace(torch.zeros(site.kernel_shape), 0.3).to_event(len(site.kernel_shape))

class Student(AutoDiagonalNormal):
    def get_posterior(self, *args, **kwargs):
        return dist.StudentT(5.0, self.loc, self.scale).to_event(1)
"""
BIASED = "--network mine.py:Biased --prior mine.py:Everything"
LAPLACE = "{kernel_size: 1, prior: {class: laplace, scale: 0.1}}"
RULES = f"--prior assigned --prior.rules '[{{kernel_size: 3, prior: gaussian}}, {LAPLACE}]'"
SWAPS = [  # flags
    "--guide point --kl_weight 0 --start random --likelihood categorical",
    "--guide.relative_scale 0.01 --start random --initial_scale 0.1 --kernels_per_group null --warm_up 3 --estimator flipout",
    "--guide dropout --guide.rate 0.3 --kl_weight 0 --start random",
    "--kernels_per_group 5 --prior.scale 0.1 --schedule.batch_size 1 --clip_norm 1",
    "--preprocess.grid null --preprocess.spacing [8,7,6] --schedule.batch_size 1",
    "--network.channels [2,3,4] --preprocess.grid [11,16,13]",
    "--prior deep_weight --prior.path prior.safetensors --guide point --start random --draws 3",
    RULES,
    "--prior smooth_prior.py:Smooth --prior.length 1.5 --guide per_kernel_guide.py:PerKernel --guide.relative_scale 0.05",
    "--prior smooth_prior.Smooth --guide ensemble --guide.guide per_kernel_guide.PerKernel --guide.members 2",
    "--prior implicit_prior.py:Waves",
    f"{BIASED} --guide mean_field",
    f"{BIASED} --guide kernel_covariance",
    f"{BIASED} --guide ensemble",
    "--guide auto --guide.settings '{init_scale: 0.01}'",
    "--guide auto --guide.family AutoDelta",
    "--guide ensemble --guide.guide auto --guide.guide.family mine.Student --guide.members 2",
    "--prior deep_weight --prior.path prior.safetensors --guide latent",
    "--guide ensemble --guide.guide latent --guide.guide.path prior.safetensors --guide.members 2",
]


@pytest.fixture
def run(infer: Call, target: Path, tmp_path: Path) -> Call:
    """Return a function of a line of flags that runs svi_target.py beside files of one's own."""
    for file in (*EXAMPLES.glob("*.py"), target.parent / "prior" / "prior.safetensors"):
        shutil.copy(file, tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    return lambda flags, *more: infer("--schedule.epochs", 1, *shlex.split(flags), *more)


def metrics(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text())


@pytest.mark.parametrize("flags", SWAPS)
def test_what_is_swapped_is_inferred_and_resumed_and_predicts_the_same_from_another_folder(
    run, finished, tmp_path, nifti_tumours, monkeypatch, flags
):
    monkeypatch.syspath_prepend(tmp_path)
    folder = run(flags)
    if "auto" in flags or "latent" in flags:  # guides that build themselves when they are filled
        run(flags, "--resume", "--schedule.epochs", 2)
    (tmp_path / "prior.safetensors").unlink()
    sites = json.loads((folder / "sites.json").read_text()).values()
    assert {site[-1] for site in sites if len(site) == 5} == ({1, 3} if flags == RULES or BIASED in flags else {3})
    assert metrics(folder)["test"]["count"] == 2
    elbo = metrics(folder)["elbo"]
    assert all(math.isfinite(value) for value in elbo.values())
    assert (elbo["train/kl_latent"] > 0) == ("deep_weight" in flags or "implicit" in flags)
    (tmp_path / "elsewhere").mkdir()
    name = json.loads((folder / "split.json").read_text())["test"][0]
    image = nifti_tumours / "images" / f"{name}.nii.gz"
    finished(tmp_path / "elsewhere", "predict", "--run", folder, "--images", image, "--output", "maps")
    places = tmp_path / "elsewhere" / "maps", folder / "predictions"
    ours, theirs = (nib.load(place / f"{name}_entropy.nii.gz").get_fdata() for place in places)
    assert np.ptp(ours) > 0
    assert np.allclose(ours, theirs, atol=1e-5)


def test_a_config_with_classes_and_files_of_ones_own_works_from_another_folder(run, finished, tmp_path):
    folder = run("--guide latent --guide.path prior.safetensors --prior smooth_prior.py:Smooth")
    (tmp_path / "elsewhere").mkdir()
    finished(tmp_path / "elsewhere", "svi_target", "--config", folder / "config.yaml", "--name", "again")
    again = tmp_path / "elsewhere" / "runs" / "again"
    assert metrics(again)["test"] == metrics(folder)["test"]
    assert yaml.safe_load((again / "config.yaml").read_text())["guide"]["path"] == str(tmp_path / "prior.safetensors")


def test_figures_are_drawn_of_any_sites(run, monkeypatch):
    monkeypatch.undo()
    folder = run(BIASED)
    assert json.loads((folder / "sites.json").read_text())["norm.bias"] == [4]
    assert {"kernels.png", "learning_curves.png"} < {path.name for path in (folder / "figures").iterdir()}


@pytest.mark.parametrize(("guide", "copies"), [("point", 1), ("ensemble --guide.guide point --guide.members 2", 2)])
def test_a_guide_and_each_member_of_an_ensemble_start_from_a_network_of_ones_own(
    run, finished, tmp_path, small, guide, copies
):
    mine, path = "--network mine.py:Biased", "runs/source/networks/network-00-cycle-0.safetensors"
    flags = [*small["train_source"], "--networks", 1, "--cycles", 1, "--name", "source"]
    finished(tmp_path, "train_source", *flags, *mine.split())
    slow = "--schedule.learning_rate 1.1e-6 --schedule.stop_rate 1e-6"
    folder = run(f"{mine} --guide {guide} --start source --source {path} {slow}")
    source, stored = load_file(tmp_path / path), load_file(folder / "checkpoint" / "last.safetensors")
    for name, weight in source.items():
        found = [value for key, value in stored.items() if unquote(key).endswith((f":{name}", f"network.{name}"))]
        assert len(found) == (copies if name == "first.weight" else 1)
        assert all(torch.allclose(value, weight, atol=1e-5) for value in found), name


def test_a_figure_that_fails_costs_no_scores(run, tmp_path, monkeypatch):
    monkeypatch.setattr("pyro_dwp.report.draw_run", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("")
    assert metrics(tmp_path / "runs" / "run")["test"]["count"] == 2
