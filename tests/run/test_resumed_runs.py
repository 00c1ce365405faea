"""What --resume does for a run begun with --overwrite, stopped among its test scans, or whose scans have changed."""

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pyro_dwp.data import layouts
from pyro_dwp.predict import cases
from pyro_dwp.train import PointTask, VariationalTask

Call = Callable[..., Any]
PAIRS = ["--data", "folder_pairs", "--data.images", "data/images", "--data.labels", "data/labels"]


@pytest.fixture
def data(nifti_tumours: Path, tmp_path: Path) -> Path:
    """A copy of the six tumours, which may grow or shrink."""
    return shutil.copytree(nifti_tumours, tmp_path / "data")


@pytest.fixture
def target(no_figures: None, target_flags: list[str]) -> list[object]:
    """Script and flags of a run on `data`."""
    return ["svi_target", "--prior", "gaussian", *PAIRS, *target_flags, "--name", "run"]


@pytest.fixture
def source(source_flags: list[str]) -> list[object]:
    """Script and flags of a source run on `data`."""
    return ["train_source", *PAIRS, *source_flags, "--networks", "1", "--name", "run"]


@pytest.fixture
def ctrl_c(monkeypatch: pytest.MonkeyPatch) -> Callable[[type, str, int], list[Any]]:
    """Return a function that has Ctrl-C pressed in the n-th call of a method or function, and lists the calls."""

    def press(owner: Any, name: str, number: int) -> list[Any]:
        calls: list[Any] = []
        original = getattr(owner, name)

        def watched(*arguments: Any, **named: Any) -> Any:
            calls.append(arguments)
            if len(calls) == number:
                signal.raise_signal(signal.SIGINT)
            return original(*arguments, **named)

        monkeypatch.setattr(owner, name, watched)
        return calls

    return press


def another_scan(data: Path) -> None:
    """Add a scan whose name comes before the others."""
    for part in ("images", "labels"):
        shutil.copy(data / part / "tumour_003.nii.gz", data / part / "a_new_one.nii.gz")


def split(tmp_path: Path, name: str = "run") -> dict[str, list[str]]:
    return json.loads((tmp_path / "runs" / name / "split.json").read_text())


def metrics(tmp_path: Path, name: str = "run") -> dict[str, Any]:
    return json.loads((tmp_path / "runs" / name / "metrics.json").read_text())


# The split.


def test_a_source_run_resumed_with_one_more_scan_in_the_folder_keeps_its_split(
    finished: Call, data: Path, source: list[object], tmp_path: Path
) -> None:
    finished(tmp_path, *source)
    before = split(tmp_path)
    another_scan(data)
    finished(tmp_path, *source, "--resume")
    assert split(tmp_path) == before
    finished(tmp_path, *source[:-1], "drawn_anew")
    assert split(tmp_path, "drawn_anew") != before


@pytest.mark.parametrize("script", ["target", "source"])
def test_a_run_whose_scans_have_gone_names_them_though_too_few_are_left_for_a_new_split(
    call: Call, finished: Call, data: Path, tmp_path: Path, request: pytest.FixtureRequest, script: str
) -> None:
    flags = request.getfixturevalue(script)
    finished(tmp_path, *flags)
    kept = split(tmp_path)
    gone = kept["train"][0]
    left = {name for part in kept.values() for name in part} - {gone}
    for path in data.rglob("*.nii.gz"):
        if path.name.removesuffix(".nii.gz") not in left:
            path.unlink()
    done = call(tmp_path, *flags, "--resume")
    assert done.status == 2
    assert done.err.startswith("error: runs/run/split.json names cases that are no longer there: " + gone)
    assert "Put them back, or begin a new run." in done.err
    assert split(tmp_path) == kept


# --overwrite.


def test_a_run_begun_with_overwrite_is_resumed_as_its_message_says(
    call: Call, finished: Call, data: Path, target: list[object], tmp_path: Path, ctrl_c: Callable
) -> None:
    finished(tmp_path, *target)
    steps = ctrl_c(VariationalTask, "step", 2)
    stopped = call(tmp_path, *target, "--overwrite")
    assert stopped.status == 130
    assert "run the same command with --resume (and without --overwrite)" in stopped.err
    assert not {"resume", "overwrite"} & yaml.safe_load((tmp_path / "runs" / "run" / "config.yaml").read_text()).keys()
    finished(tmp_path, *target, "--resume")
    assert len(steps) == 3  # two epochs of one step, and the one that was stopped
    finished(tmp_path, "svi_target", "--resume", "--name", "run")


def test_a_source_run_begun_with_overwrite_is_resumed_without_further_flags(
    call: Call, finished: Call, data: Path, source: list[object], tmp_path: Path, ctrl_c: Callable
) -> None:
    steps = ctrl_c(PointTask, "step", 3)
    assert call(tmp_path, *source, "--overwrite").status == 130
    finished(tmp_path, "train_source", "--resume", "--name", "run")
    assert len(steps) == 5  # two cycles of two epochs of one step, and the one that was stopped
    assert len(metrics(tmp_path)["snapshots"]) == 2


def test_resume_and_overwrite_together_are_refused_and_delete_nothing(
    call: Call, finished: Call, data: Path, target: list[object], tmp_path: Path
) -> None:
    finished(tmp_path, *target)
    before = {path: path.read_bytes() for path in (tmp_path / "runs").rglob("*") if path.is_file()}
    done = call(tmp_path, *target, "--resume", "--overwrite")
    assert done.status == 2
    assert "give one of them" in done.err
    assert before == {path: path.read_bytes() for path in (tmp_path / "runs").rglob("*") if path.is_file()}


# The test phase.


@pytest.mark.parametrize("name", ["run", None])
def test_ctrl_c_among_the_test_scans_says_how_to_go_on_and_only_they_are_done_again(
    call: Call,
    finished: Call,
    data: Path,
    target: list[object],
    tmp_path: Path,
    ctrl_c: Callable,
    name: str | None,
) -> None:
    flags = target if name else target[:-2]
    whole = tmp_path / "whole"
    whole.mkdir()
    (whole / "data").symlink_to(data)
    finished(whole, *target)
    steps, predicted = ctrl_c(VariationalTask, "step", 0), ctrl_c(cases, "predict_scan", 2)
    stopped = call(tmp_path, *flags)
    folder = f"runs/{name or 'svi_target-quick-001'}"
    assert stopped.status == 130
    assert "Traceback" not in stopped.err
    advice = f"{folder} keeps what was trained; continue with --resume --name {Path(folder).name}."
    assert stopped.err.strip() == f"Stopped. {advice}"
    assert not (tmp_path / folder / "metrics.json").exists()
    trained = len(steps)
    finished(tmp_path, "svi_target", *advice.rstrip(".").partition("continue with ")[2].split())
    assert (trained, len(steps), len(predicted)) == (2, 2, 4)
    assert metrics(tmp_path, Path(folder).name)["test"] == metrics(whole)["test"]


def test_ctrl_c_before_anything_is_trained_leaves_no_run(
    call: Call, data: Path, target: list[object], tmp_path: Path, ctrl_c: Callable
) -> None:
    ctrl_c(layouts, "read_scan", 1)
    stopped = call(tmp_path, *target)
    assert (stopped.status, stopped.err.strip()) == (130, "Stopped.")
    assert not (tmp_path / "runs").exists()
