"""run/svi_target.py: what can be swapped, what it promises about seeds and about the test scans."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

Call = Callable[..., Any]
GAUSSIAN = ["--prior", "gaussian"]

MY_PRIOR = '''
import pyro.distributions as dist
import torch

from pyro_dwp.priors import PriorFamily


class MyPrior(PriorFamily):
    """Laplace.

    Args:
        scale: of a weight.
    """

    def __init__(self, scale: float = 0.1) -> None:
        super().__init__()
        self.scale = scale

    def distribution(self, site):
        return dist.Laplace(torch.zeros(site.kernel_shape), self.scale).to_event(len(site.kernel_shape))
'''

MY_GUIDE = '''
import pyro.distributions as dist

from guides.base import Guide


class MyGuide(Guide):
    """Gaussians of one fixed scale.

    Args:
        sites: site name → site.
        start: site name → means.
        scale: of a weight.
    """

    def __init__(self, sites, start, scale: float = 0.01) -> None:
        super().__init__(sites, start)
        self.scale = scale
        for name in sites:
            self.add_parameter("mean", name, start[name])

    def distribution(self, name):
        mean = self.parameter("mean", name)
        return dist.Normal(mean, self.scale).to_event(mean.dim())
'''

MY_DATA = '''
import os
from pathlib import Path

from pyro_dwp.data import CaseSource, Phantoms


class Watched(CaseSource):
    """Phantoms that note when they are looked at, and how far the run had come."""

    def __init__(self) -> None:
        self.phantoms = Phantoms(cases=6, shape=(16, 16, 16))

    def names(self):
        return self.phantoms.names()

    def load(self, name):
        with open("looked_at.txt", "a") as file:
            print(name, Path("runs/run/checkpoint").exists(), file=file)
        return self.phantoms.load(name)
'''


@pytest.fixture
def run(finished: Call, no_figures: None, phantom_flags: list[str], target_flags: list[str], tmp_path: Path) -> Call:
    """Return a function that runs the script with the Gaussian prior and these flags, and returns its folder."""

    def infer(*flags: object, name: str = "run") -> Path:
        finished(tmp_path, "svi_target", *phantom_flags, *GAUSSIAN, *target_flags, "--name", name, *flags)
        return tmp_path / "runs" / name

    return infer


def metrics(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text())


def weights(folder: Path, module: str = "guide") -> dict[str, torch.Tensor]:
    stored = load_file(folder / "checkpoint" / "last.safetensors")
    return {key: value for key, value in stored.items() if key.startswith(f"modules/{module}/")}


def test_the_last_line_names_the_scores_and_the_folder(chain: Path, target: Path) -> None:
    last = (chain / "svi_target.txt").read_text().splitlines()[-1]
    mean = metrics(target)["test"]["mean"]
    assert f"Dice {mean['dice']:.3f}" in last
    assert f"IoU {mean['iou']:.3f}" in last
    assert last.endswith("runs/target")


def test_progress_shows_loss_parts_validation_dice_and_time_left(chain: Path) -> None:
    lines = (chain / "svi_target.txt").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("epoch 2/2")]
    assert all(word in line for word in ("loss ", "data ", "kl ", "entropy ", "dice ", "s left"))


@pytest.mark.parametrize(
    "flags",
    [
        ["--guide", "point"],
        ["--guide", "point", "--kl_weight", "0", "--start", "random"],
        ["--guide.relative_scale", "0.01", "--start", "random", "--initial_scale", "0.1"],
        ["--likelihood", "categorical"],
        ["--kernels_per_group", "null", "--warm_up", "3", "--clip_norm", "1"],
        ["--kernels_per_group", "5", "--prior.scale", "0.1", "--schedule.batch_size", "1"],
        ["--preprocess.grid", "null", "--preprocess.spacing", "[8,7,6]", "--schedule.batch_size", "1"],
        ["--network.channels", "[2,3,4]", "--preprocess.grid", "[11,16,13]"],
    ],
    ids=" ".join,
)
def test_what_can_be_swapped_runs(run: Call, flags: list[str]) -> None:
    scores = metrics(run(*flags))
    assert scores["test"]["count"] == 2
    assert math.isfinite(scores["elbo"]["train/loss"])


@pytest.mark.parametrize("flags", [["--draws", "3"], ["--start", "random"], ["--guide", "point"]], ids=" ".join)
def test_what_goes_with_a_deep_prior_runs(run: Call, chain: Path, flags: list[str]) -> None:
    folder = run("--prior", "deep_weight", "--prior.path", chain / "runs/prior/prior.safetensors", *flags)
    assert metrics(folder)["elbo"]["train/kl_latent"] > 0
    assert weights(folder, "encoders")


@pytest.mark.parametrize(
    ("file", "text", "flags", "stored"),
    [
        ("my_prior.py", MY_PRIOR, ["--prior", "my_prior.py:MyPrior", "--prior.scale", "0.2"], "prior"),
        ("my_guide.py", MY_GUIDE, ["--guide", "my_guide.py:MyGuide", "--guide.scale", "0.02"], "guide"),
    ],
)
def test_a_class_from_a_users_file_runs_and_its_run_predicts_elsewhere(
    run: Call,
    finished: Call,
    tmp_path: Path,
    nifti_tumours: Path,
    file: str,
    text: str,
    flags: list[str],
    stored: str,
) -> None:
    (tmp_path / file).write_text(text)
    folder = run(*flags)
    config = yaml.safe_load((folder / "config.yaml").read_text())[stored]
    assert config["class_path"].startswith(f"{tmp_path / file}:")
    (tmp_path / "elsewhere").mkdir()
    image = nifti_tumours / "images" / "tumour_000.nii.gz"
    finished(tmp_path / "elsewhere", "predict", "--run", folder, "--images", image, "--output", "maps")
    assert (tmp_path / "elsewhere" / "maps" / "tumour_000_mask.nii.gz").exists()


@pytest.mark.parametrize(
    ("flag", "legal"),
    [
        (
            "--prior",
            "assigned, deep_weight, empirical, flow, gaussian, laplace, mixture, pretrained, scale_mixture, student_t",
        ),
        ("--guide", "ensemble, kernel_covariance, latent, low_rank, matrix_normal, mean_field, point"),
        ("--likelihood", "categorical, dice_cross_entropy"),
        ("--network", "unet"),
        ("--data", "decathlon, folder_pairs, phantoms"),
    ],
)
def test_an_unknown_name_lists_the_legal_ones(call: Call, tmp_path: Path, flag: str, legal: str) -> None:
    done = call(tmp_path, "svi_target", *GAUSSIAN, flag, "unheard_of")
    assert done.status == 2
    assert done.err.startswith(f"error: {flag}: ")
    assert f"Legal names are: {legal}." in done.err
    assert not list(tmp_path.iterdir())


def test_the_guide_starts_from_a_source_network(run: Call, chain: Path) -> None:
    path = chain / "runs" / "source" / "networks" / "network-00-cycle-1.safetensors"
    folder = run(
        "--guide",
        "point",
        "--start",
        "source",
        "--source",
        path,
        "--schedule.learning_rate",
        "1.1e-6",
        "--schedule.stop_rate",
        "1e-6",
    )
    source = load_file(path)
    found = {key.rpartition(":")[2].replace("/", "."): value for key, value in weights(folder).items()}
    found |= {key.rpartition("/network.")[2]: value for key, value in weights(folder, "network").items()}
    assert found.keys() == source.keys()
    assert all(torch.allclose(value, source[name], atol=1e-5) for name, value in found.items())


def test_a_start_from_a_source_needs_one(call: Call, tmp_path: Path) -> None:
    done = call(tmp_path, "svi_target", *GAUSSIAN, "--start", "source")
    assert done.status == 2
    assert "--source" in done.err
    assert not list(tmp_path.iterdir())


def test_the_same_seed_gives_the_same_run_and_another_one_another(run: Call) -> None:
    first, again, other = run(name="first"), run(name="again"), run("--seed", 1, name="other")
    assert metrics(first)["test"] == metrics(again)["test"]
    assert metrics(first)["weight_scales"] == metrics(again)["weight_scales"]
    assert all(torch.equal(value, weights(again)[key]) for key, value in weights(first).items())
    assert not all(torch.equal(value, weights(other)[key]) for key, value in weights(first).items())


def test_another_split_keeps_the_test_scans_and_shares_none_with_them(run: Call, target: Path) -> None:
    one, other = (json.loads((folder / "split.json").read_text()) for folder in (target, run("--split_seed", 1)))
    assert one["test"] == other["test"]
    assert one["train"] != other["train"]
    for split in (one, other):
        assert len(set(split["train"] + split["validation"] + split["test"])) == 5


def test_no_test_scan_is_looked_at_before_inference_has_ended(run: Call, tmp_path: Path) -> None:
    (tmp_path / "my_data.py").write_text(MY_DATA)
    split = json.loads((run("--data", "my_data.py:Watched") / "split.json").read_text())
    lines = [line.split() for line in (tmp_path / "looked_at.txt").read_text().splitlines()]
    assert lines == [
        *([name, "False"] for name in split["train"] + split["validation"]),
        *([name, "True"] for name in split["test"]),
    ]
