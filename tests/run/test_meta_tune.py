"""run/meta_tune.py: each order on phantoms, what the run holds and who can use it, resumption, and what it refuses."""

import json
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

from pyro_dwp.runs.script import resolve_layers
from pyro_dwp.safe_yaml import read_yaml
from tests.run.conftest import BRIEF, GRID, PHANTOMS, RUN, SMALL, SOURCE, SPLIT
from tests.run.test_resume import check_equal

NETWORK = "network-00-cycle-1.safetensors"
TUNED = [*PHANTOMS, *GRID, *SMALL, *SPLIT, *BRIEF, "--test", "2", "--threads", "1"]
FCN = ["--network", "fcn", "--network.width", "1"]


@pytest.fixture
def tune(finished, no_figures, source, tmp_path, monkeypatch) -> Callable[..., Path]:
    """Return a function of flags that tunes a network of the source run, briefly, and returns the run's folder."""

    def run(
        *flags: object, name: str = "run", network: Path = source / "runs" / "source" / "networks" / NETWORK
    ) -> Path:
        finished(tmp_path, "meta_tune", *TUNED, "--source", network, "--name", name, *flags)
        return tmp_path / "runs" / name

    return run


def read(folder: Path, file: str = "metrics.json") -> dict:
    return json.loads((folder / file).read_text())


@pytest.mark.parametrize(
    "flags", ["naive", "passive", "active", "active --first_order true --inner_steps 2 --tasks_per_scan 4"]
)
def test_each_order_runs_and_leaves_scores_that_predict_and_score_find_again(
    tune, finished, nifti_tumours, tmp_path, flags
):
    folder = tune("--order", *flags.split())
    split, metrics = read(folder, "split.json"), read(folder)
    assert list(metrics["test"]["cases"]) == split["test"]
    assert {name.split("/")[0] for name in metrics["source_dice"]} == {*split["train"]}
    assert 0 < metrics["seconds_per_step"] < metrics["seconds"]
    finished(tmp_path, "score", "--runs", f"[{folder}]", "--name", "again")
    assert read(tmp_path / "runs" / "again")["test"] == metrics["test"]
    finished(tmp_path, "predict", "--run", folder, "--images", nifti_tumours / "images", "--output", "maps")
    assert len(list((tmp_path / "maps").glob("*_mask.nii.gz"))) == 6
    assert {path.stem for path in (folder / "figures").iterdir()} == {"learning_curves", *split["test"]}


def test_a_network_of_slices_is_tuned_to_slabs_of_a_scan(tune, finished, tmp_path):
    finished(tmp_path, "train_source", *PHANTOMS, *SOURCE, *FCN, "--name", "slices")
    flags = [*FCN, "--tasks_per_scan", "3", "--schedule.batch_size", "3"]
    folder = tune(*flags, network=tmp_path / "runs" / "slices" / "networks" / NETWORK)
    train = read(folder, "split.json")["train"]
    assert list(read(folder)["source_dice"]) == [f"{name}/{slab}" for name in train for slab in range(3)]


def test_a_resumed_run_ends_as_an_uninterrupted_one(tune, finished, tmp_path):
    whole = tune("--schedule.epochs", 3, name="whole")
    parts = tune("--schedule.epochs", 1, name="parts")
    finished(tmp_path, "meta_tune", "--resume", "--name", "parts", "--schedule.epochs", "3")
    check_equal(whole, parts)


@pytest.mark.parametrize("name", ["naive", "passive", "active"])
def test_a_method_of_this_script_is_its_order_and_a_source_network(name):
    method = read_yaml(RUN / "configs" / "methods" / f"{name}.yaml")
    assert (method.pop("script"), method.pop("source")) == ("meta_tune", f"@source/networks/{NETWORK}")
    main = runpy.run_path(str(RUN / "meta_tune.py"))["main"]
    base = read_yaml(RUN / "configs" / "quick_meta.yaml")
    found = resolve_layers(main, {Path("quick_meta"): base, Path(name): method}, {}).plain()
    assert method == {"order": found["order"]} == {"order": name}


MISTAKES = {
    "": ["quick_source-001/networks/network-00-cycle-0.safetensors", "train_source"],
    "--source null": ["source"],
    "--source {network} --network.channels [4,6]": [NETWORK, "(8, 4, 3, 3, 3)", "(6, 4, 3, 3, 3)", "config.yaml"],
    "--source {network} --network fcn --network.channels null": ["channels"],
    "--source {network} --schedule.batch_size 1": ["schedule.batch_size is 1", "--order passive"],
    "--source {network} --train 1": ["smallest number of tasks", "1", "--order passive"],
    "--source {network} --order actve": ["order", "'active'"],
    "--source {network} --inner_rate 0": ["inner_rate", "0"],
}


@pytest.mark.parametrize("flags", MISTAKES)
def test_a_mistake_is_one_line_with_its_cure_and_leaves_nothing(refused, source, flags):
    words = flags.format(network=source / "runs" / "source" / "networks" / NETWORK).split()
    refused(MISTAKES[flags], "meta_tune", *TUNED, *words)
