"""From source scans to scores: what each script leaves, that the next one can use it, and prediction of other scans."""

import csv
import json
import math
import shutil
from pathlib import Path
from typing import Any

import matplotlib.image
import nibabel as nib
import numpy as np
import pytest
import yaml
from safetensors import safe_open
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pyro_dwp.data import Phantoms, write_volume
from pyro_dwp.priors.store import load_prior

MAPS = ("mask", "probability", "entropy", "mutual_information")
PARTS = ("loss", "data", "kl", "kl_explicit", "entropy", "kl_latent", "reconstruction", "kl_weight")


@pytest.fixture(scope="module")
def metrics(target: Path) -> dict[str, Any]:
    return json.loads((target / "metrics.json").read_text())


@pytest.fixture(scope="module")
def tested(target: Path) -> list[str]:
    return json.loads((target / "split.json").read_text())["test"]


def test_by_default_a_prior_is_a_shallow_deep_weight_prior_of_the_groups_of_its_bank(chain):
    prior = load_prior(chain / "runs" / "prior" / "prior.safetensors")
    assert (prior.family, list(prior.densities)) == ("deep_weight", ["1", "2", "3"])
    assert prior.densities["1"].settings == {"variant": "shallow", "latent": 2, "hidden": 8}
    assert (chain / "runs" / "prior" / "figures" / "kernels.png").stat().st_size > 1000


def test_the_run_holds_the_files_that_users_are_promised_and_no_others(target, tested):
    found = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    events = {name for name in found if name.startswith("events.")}
    maps = {f"predictions/{name}_{kind}.nii.gz" for name in tested for kind in ("mask", "entropy")}
    maps |= {"predictions/labels.json"}
    figures = {f"figures/{name}.png" for name in ("learning_curves", "kernels", *tested)}
    notes = {f"{name}.json" for name in ("metrics", "history", "sites", "split", "sequences", "calibration")}
    assert len(events) == 1
    assert (
        found - events
        == {"config.yaml", "report.html", "checkpoint/last.safetensors", "review.csv"} | notes | maps | figures
    )
    for name in figures:
        height, width, _ = matplotlib.image.imread(target / name).shape
        assert min(height, width) > 100, name
    with safe_open(target / "checkpoint" / "last.safetensors", framework="pt") as file:
        parts = {"/".join(key.split("/")[:2]) for key in file.keys()}  # noqa: SIM118
    assert parts == {"modules/network", "modules/guide", "modules/encoders", "optimiser/0", "optimiser/1", "random/cpu"}


def test_the_config_is_resolved_and_says_where_the_run_comes_from(chain, target):
    config = yaml.safe_load((target / "config.yaml").read_text())
    assert Path(config["prior"]["path"]) == chain / "runs" / "prior" / "prior.safetensors"
    network = {"class": "pyro_dwp.UNet", "in_channels": 1, "classes": 2, "channels": [4, 8], "ndim": 3}
    assert config["network"] == network | {"recompute": False}
    assert (config["schedule"]["batch_size"], config["seed"]) == (2, 0)
    assert config["provenance"][0]["command"].startswith("svi_target.py --data phantoms")


def test_the_metrics_hold_scores_per_case_parts_of_the_elbo_that_add_up_and_the_cost(metrics, tested):
    scores = metrics["test"]
    assert list(scores["cases"]) == tested
    for kind in ("dice", "iou"):
        each = [case[kind] for case in scores["cases"].values()]
        assert all(0 <= score <= 1 for score in each)
        assert scores["mean"][kind] == pytest.approx(np.mean(each))
        assert scores["std"][kind] == pytest.approx(np.std(each, ddof=1))
    elbo = {part: metrics["elbo"][f"train/{part}"] for part in PARTS}
    assert elbo["loss"] == pytest.approx(elbo["kl_weight"] * elbo["kl"] - elbo["data"], rel=1e-5)
    latent = elbo["kl_latent"] + elbo["reconstruction"]
    assert elbo["kl"] == pytest.approx(elbo["kl_explicit"] - elbo["entropy"] + latent)
    assert 0 < metrics["seconds_per_step"] < metrics["seconds"]
    assert 50 < metrics["peak_memory_mib"] < 100_000
    assert metrics["machine"]["threads"] == 1


def test_tensorboard_and_the_history_show_losses_rates_and_dice(target):
    events = EventAccumulator(str(target)).Reload()
    expected = {f"train/{part}" for part in PARTS} | {
        "rate/posterior",
        "rate/encoders",
        "validation/loss",
        "validation/dice",
    }
    assert expected <= set(events.Tags()["scalars"])
    assert [point.step for point in events.Scalars("train/loss")] == [1, 2]
    rows = json.loads((target / "history.json").read_text())["rows"]
    assert [expected <= row.keys() for row in rows] == [True, True]


def test_evaluate_reproduces_the_scores_of_the_run_and_names_truths_without_prediction(
    call, chain, nifti_tumours, metrics, tested
):
    scores = json.loads((chain / "scores" / "scores.json").read_text())
    assert list(scores["cases"]) == tested
    for name, case in metrics["test"]["cases"].items():
        assert {"dice": case["dice"], "iou": case["iou"]}.items() <= scores["cases"][name].items()
    rows = list(csv.DictReader((chain / "scores" / "scores.csv").read_text().splitlines()))
    assert [row["case"] for row in rows] == [*tested, "mean", "std"]
    assert float(rows[2]["dice"]) == scores["mean"]["dice"] == metrics["test"]["mean"]["dice"]
    said, missing = (chain / "evaluate.txt").read_text(), "4 of 6 truths have no prediction: tumour_0"
    assert f"{scores['mean']['iou']:.4f}" in said
    assert missing in said
    done = call(chain, "evaluate", "--predictions", "runs/target/predictions", "--truths", nifti_tumours / "labels")
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert missing in done.err
    assert "--allow_missing" in done.err


def test_predict_reproduces_the_predictions_of_the_run_on_the_grids_of_the_scans(chain, target, tested, tumours):
    for name in tested:
        scan = tumours.load(name)
        for kind in ("mask", "entropy"):
            again = nib.load(chain / "maps" / f"{name}_{kind}.nii.gz")
            before = nib.load(target / "predictions" / f"{name}_{kind}.nii.gz")
            assert np.array_equal(np.asarray(again.dataobj), np.asarray(before.dataobj)), (name, kind)
            assert before.shape == again.shape == scan.shape
            assert np.allclose(before.affine, scan.affine)
    assert (chain / "predict.txt").read_text().splitlines()[-1] == f"6 scan(s) predicted: {chain / 'maps'}"


def test_a_scan_is_reviewed_alike_in_its_run_and_as_a_new_one_with_the_runs_calibration(chain, target, tested):
    tables = [csv.DictReader((folder / "review.csv").read_text().splitlines()) for folder in (target, chain / "maps")]
    own, new = ({row["case"]: row for row in table} for table in tables)
    assert (len(own), len(new)) == (2, 6)
    for name in tested:
        assert own[name]["slices"] == new[name]["slices"]
        for key in ("predicted_dice", "volume_low_ml", "volume_high_ml", "posterior_volume_low_ml", "wrong_ml"):
            assert float(own[name][key]) == pytest.approx(float(new[name][key]), rel=1e-5)
    lines = (chain / "predict.txt").read_text().splitlines()
    assert any(line.startswith("Look here first") for line in lines)
    assert "1 validation scan(s)" in lines[-2]


def test_the_validity_of_runs_is_pooled(finished, target, tmp_path):
    out = finished(tmp_path, "validity", "--runs", f"[{target},{target}]", "--output", "pooled.json").out
    expected = json.loads((target / "metrics.json").read_text())["validity"]
    assert json.loads((tmp_path / "pooled.json").read_text()) == expected
    assert "too few" in out  # two scans


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two scans: one turned and flipped against the scanner's axes, both of other shapes than the grid."""
    folder = tmp_path_factory.mktemp("scans")
    turned = np.array([[0.0, -2.6, 1.5, 40], [-3.0, 0, 0, 12], [0, -1.5, -2.6, -7], [0, 0, 0, 1]])
    straight = np.diag([-4.0, 3.0, 5.0, 1.0])
    for name, shape, affine in (("turned", (19, 14, 12), turned), ("straight", (12, 21, 16), straight)):
        image = Phantoms(cases=1, shape=shape).load("tumour_000").image[0]
        write_volume(folder / f"{name}.nii.gz", image, affine, np.float32)
    return folder


@pytest.fixture
def predict(finished, target, scans, tmp_path):
    """Return a function that predicts scans with these flags, and returns map → array of the turned one."""

    def run(*flags: object, images: Path = scans, run: Path = target) -> dict[str, np.ndarray]:
        finished(tmp_path, "predict", "--run", run, "--images", images, "--output", "maps", "--overwrite", *flags)
        return {kind: nib.load(tmp_path / "maps" / f"turned_{kind}.nii.gz").get_fdata() for kind in MAPS}

    return run


def test_maps_have_the_grid_affine_and_orientation_of_their_scan_and_agree_with_each_other(predict, scans, tmp_path):
    maps = predict("--samples", 5)
    names = {f"{name}_{kind}.nii.gz": name for name in ("turned", "straight") for kind in MAPS}
    assert {path.name for path in (tmp_path / "maps").iterdir()} == {*names, "labels.json", "review.csv"}
    for file, name in names.items():
        scan, found = (nib.load(path) for path in (scans / f"{name}.nii.gz", tmp_path / "maps" / file))
        assert found.shape == scan.shape
        assert np.allclose(found.affine, scan.affine, atol=1e-5)
        assert nib.aff2axcodes(found.affine) == nib.aff2axcodes(scan.affine)
    assert set(np.unique(maps["mask"])) <= {0, 1}
    assert np.array_equal(maps["mask"], maps["probability"] > 0.5)
    assert ((maps["probability"] >= 0) & (maps["probability"] <= 1)).all()
    assert (maps["mutual_information"] >= 0).all()
    assert (maps["mutual_information"] <= maps["entropy"] + 2 * math.log(2) / 510).all()
    assert maps["entropy"].max() <= math.log(2) + 1e-6
    assert maps["mutual_information"].max() > 0


def test_predictions_depend_on_scan_run_and_seed_alone(predict, target, scans, tmp_path):
    first, other = predict("--seed", 3), predict("--seed", 4)
    assert not np.array_equal(first["probability"], other["probability"])
    moved = shutil.copytree(target, tmp_path / "moved")
    for again in (predict("--seed", 3), predict("--seed", 3, images=scans / "turned.nii.gz", run=moved)):
        assert all(np.array_equal(first[kind], again[kind]) for kind in MAPS)


def test_one_sample_tells_nothing_of_the_weights_and_a_window_as_large_as_the_grid_changes_nothing(predict):
    assert not predict("--samples", 1)["mutual_information"].any()
    whole = predict()
    assert np.array_equal(predict("--window", "[16,16,16]")["probability"], whole["probability"])
    assert predict("--window", "[8,8,12]", "--overlap", "0.5")["probability"].shape == whole["probability"].shape
