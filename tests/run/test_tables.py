"""tables.py and figures.py on two small runs of svi_target.py."""

import shutil
from pathlib import Path

import pytest

from tests.helpers.experiment import metrics, write_experiment

ROW = {"split": 0, "seed": 0}


@pytest.fixture
def experiment(target: Path, chain: Path, tmp_path: Path) -> Path:
    """Folder of an experiment of one real run, which also stands in for a second one, and a run that failed."""
    folder = write_experiment(
        tmp_path / "runs" / "small", {("theirs", 1, 0, 0): "no disk", ("theirs", 2, 0, 0): metrics({"a": 0})}
    )
    shutil.rmtree(folder / "theirs-2-0-0")
    shutil.copytree(target, folder / "theirs-2-0-0")
    shutil.copytree(chain / "runs" / "prior", tmp_path / "runs" / "prior")
    shutil.copytree(chain / "runs" / "kernels", tmp_path / "runs" / "kernels")
    return folder


def test_tables_are_printed_and_written(finished, experiment: Path, tmp_path: Path) -> None:
    said = finished(tmp_path, "tables", "--experiment", "runs/small").out
    assert "[1] no disk" in said
    assert (experiment / "tables" / "tables.md").read_text().strip() in said
    assert (experiment / "tables" / "more.tex").exists()


def test_figures_show_scores_cases_and_kernels(finished, experiment: Path, tmp_path: Path) -> None:
    kernels = [
        "--bank",
        "runs/kernels/bank.safetensors",
        "--prior",
        "deep_weight",
        "--prior.path",
        "runs/prior/prior.safetensors",
    ]
    finished(tmp_path, "figures", "--experiment", "runs/small", "--cases", "1", "--scores", "[hd95]", *kernels)
    names = {path.name for path in (experiment / "figures").iterdir()}
    assert names == {"hd95.png", "cases.png", "sizes.png", "kernels.png"}


def test_a_folder_without_an_experiment_is_refused(refused) -> None:
    refused(["experiment.json", "run/experiment.py"], "tables", "--experiment", "runs")
    refused(["experiment.json", "run/experiment.py"], "figures", "--experiment", "runs")
