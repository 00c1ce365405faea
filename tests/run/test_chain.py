"""From source scans to scores: what each script leaves, and that the next one can use it."""

import json
from pathlib import Path
from typing import Any

import matplotlib.image
import nibabel as nib
import numpy as np
import pytest
import yaml
from safetensors import safe_open
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pyro_dwp.data import Phantoms
from pyro_dwp.kernels.bank import KernelBank
from pyro_dwp.priors.store import load_prior

MAPS = ("mask", "probability", "entropy", "mutual_information")
PARTS = ("data", "kl", "kl_explicit", "entropy", "kl_latent", "reconstruction", "kl_weight")


def read(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def metrics(target: Path) -> dict[str, Any]:
    return read(target / "metrics.json")


@pytest.fixture(scope="module")
def tested(target: Path) -> list[str]:
    return read(target / "split.json")["test"]


def test_the_bank_holds_the_kernels_of_every_snapshot(chain: Path) -> None:
    bank = KernelBank.load(chain / "runs" / "kernels" / "bank.safetensors")
    snapshots = sorted((chain / "runs" / "source" / "networks").iterdir())
    assert [fact["file"] for fact in bank.metadata["provenance"]["snapshots"]] == [
        str(path.relative_to(chain)) for path in snapshots
    ]
    assert bank.networks == [0, 1]


def test_the_prior_covers_the_groups_of_the_bank(chain: Path) -> None:
    bank = KernelBank.load(chain / "runs" / "kernels" / "bank.safetensors")
    assert list(load_prior(chain / "runs" / "prior" / "prior.safetensors").densities) == list(bank.groups)


def test_the_run_holds_the_files_that_users_are_promised_and_no_half_written_ones(
    target: Path, tested: list[str]
) -> None:
    found = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    events = {name for name in found if name.startswith("events.")}
    maps = {f"predictions/{name}_{kind}.nii.gz" for name in tested for kind in MAPS}
    figures = {f"figures/{name}.png" for name in ("learning_curves", "kernels", *tested)}
    assert len(events) == 1
    assert found - events == {
        "config.yaml", "metrics.json", "sites.json", "split.json", "checkpoint/last.safetensors", *maps, *figures,
    }  # fmt: skip


def test_the_config_is_resolved_and_says_where_the_run_comes_from(target: Path) -> None:
    config = yaml.safe_load((target / "config.yaml").read_text())
    assert config["prior"]["init_args"]["path"] == "runs/prior/prior.safetensors"
    assert config["network"] == {
        "class_path": "pyro_dwp.nn.UNet",
        "init_args": {"in_channels": 1, "classes": 2, "channels": [4, 8], "ndim": 3},
    }
    assert config["schedule"]["batch_size"] == 2
    assert config["seed"] == 0
    (start,) = config["provenance"]
    assert start["command"].startswith("svi_target.py --data phantoms")
    assert {"torch", "pyro-ppl", "monai", "pyro-dwp"} <= start["versions"].keys()
    assert "git_revision" in start


def test_the_metrics_hold_scores_per_case_and_their_mean(metrics: dict[str, Any], tested: list[str]) -> None:
    scores = metrics["test"]
    assert list(scores["cases"]) == tested
    for kind in ("dice", "iou"):
        each = [case[kind] for case in scores["cases"].values()]
        assert all(0 <= score <= 1 for score in each)
        assert scores["mean"][kind] == pytest.approx(np.mean(each))
        assert scores["std"][kind] == pytest.approx(np.std(each, ddof=1))


def test_the_metrics_hold_the_parts_of_the_elbo_which_add_up(metrics: dict[str, Any]) -> None:
    elbo = {part: metrics["elbo"][f"train/{part}"] for part in ("loss", *PARTS)}
    assert elbo["loss"] == pytest.approx(elbo["kl_weight"] * elbo["kl"] - elbo["data"], rel=1e-5)


def test_the_metrics_hold_seconds_and_memory(metrics: dict[str, Any]) -> None:
    assert 0 < metrics["seconds_per_step"] < metrics["seconds"]
    assert 50 < metrics["peak_memory_mib"] < 100_000
    assert metrics["machine"]["threads"] == 1


def test_tensorboard_shows_losses_rates_dice_and_slices(target: Path, tested: list[str]) -> None:
    events = EventAccumulator(str(target)).Reload()
    tags = events.Tags()
    scalars = {f"train/{part}" for part in ("loss", *PARTS)} | {"rate/theta", "rate/psi"}
    assert scalars | {"validation/loss", "validation/dice"} <= set(tags["scalars"])
    assert [point.step for point in events.Scalars("train/loss")] == [1, 2]
    assert set(tags["images"]) == set(tested)


def test_figures_are_pictures(target: Path) -> None:
    for path in (target / "figures").iterdir():
        height, width, _ = matplotlib.image.imread(path).shape
        assert min(height, width) > 100, path


def test_predictions_lie_on_the_grids_of_their_scans(target: Path, tested: list[str], tumours: Phantoms) -> None:
    for name in tested:
        scan = tumours.load(name)
        for kind in MAPS:
            image = nib.load(target / "predictions" / f"{name}_{kind}.nii.gz")
            assert image.shape == scan.shape
            assert np.allclose(image.affine, scan.affine)


def test_the_checkpoint_holds_network_guide_encoders_optimiser_and_random_numbers(target: Path) -> None:
    with safe_open(target / "checkpoint" / "last.safetensors", framework="pt") as file:
        parts = {"/".join(key.split("/")[:2]) for key in file.keys()}  # noqa: SIM118
    assert {f"modules/{name}" for name in ("network", "guide", "encoders", "counter")} <= parts
    assert {"optimiser/0", "optimiser/1", "random/cpu"} <= parts


def test_evaluate_reproduces_the_scores_of_the_run(chain: Path, metrics: dict[str, Any]) -> None:
    scores = read(chain / "scores" / "scores.json")
    for name, case in metrics["test"]["cases"].items():
        assert scores["cases"][name] == {kind: case[kind] for kind in ("dice", "iou")}
    assert scores["mean"]["dice"] == metrics["test"]["mean"]["dice"]


def test_predict_reproduces_the_predictions_of_the_run(chain: Path, target: Path, tested: list[str]) -> None:
    for name in tested:
        for kind in MAPS:
            again = nib.load(chain / "maps" / f"{name}_{kind}.nii.gz")
            before = nib.load(target / "predictions" / f"{name}_{kind}.nii.gz")
            assert np.array_equal(np.asarray(again.dataobj), np.asarray(before.dataobj)), (name, kind)
