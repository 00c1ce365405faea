"""A run that was killed, stopped by a signal, or whose scans have changed since, is resumed as if nothing had happened."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import pytest
import torch
from safetensors.torch import load_file

from pyro_dwp.data import layouts
from pyro_dwp.predict import Predictor
from pyro_dwp.train import PointTask, VariationalTask

ROOT = Path(__file__).parents[2]
SEED = 3408  # kills in a step, as a checkpoint is written, in a step, among the test scans, as a map is written
KILLS = 5
LONG = ["--schedule.epochs", "6", "--schedule.batch_size", "1", "--schedule.patience", "0", "--schedule.threshold", "1"]
HARD = ["--draws", "2", "--warm_up", "5", "--clip_norm", "10", "--schedule.checkpoint_every", "2"]
HARD += ["--patch", "[12,16,9]"]
PAIRS = ["--data", "folder_pairs", "--data.images", "data/images", "--data.labels", "data/labels"]
PRESS = """
import runpy, signal, sys
class Press:
    def find_spec(self, name, *others):
        if name == "torch": signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Press())
runpy.run_path(sys.argv[1], run_name="__main__")
"""


def untimed(value: Any) -> Any:
    """Leave out of metrics what no two runs have in common."""
    if not isinstance(value, dict):
        return [untimed(item) for item in value] if isinstance(value, list) else value
    return {key: untimed(item) for key, item in value.items() if not key.startswith(("seconds", "peak_memory"))}


def read(folder: Path, name: str, run: str = "run") -> dict[str, Any]:
    return json.loads((folder / "runs" / run / f"{name}.json").read_text())


def check_equal(one: Path, other: Path) -> None:
    """Check that two runs have the same metrics and the same networks, checkpoints and volumes, bit for bit."""
    ours, theirs = (json.loads((folder / "metrics.json").read_text()) for folder in (one, other))
    assert untimed(ours) == untimed(theirs)
    ours, theirs = (sorted([*folder.rglob("*.safetensors"), *folder.rglob("*.nii.gz")]) for folder in (one, other))
    assert [path.relative_to(one) for path in ours] == [path.relative_to(other) for path in theirs]
    for pair in zip(ours, theirs, strict=True):
        if pair[0].suffix == ".gz":
            first, second = ({"": torch.from_numpy(nib.load(path).get_fdata())} for path in pair)
        else:
            first, second = map(load_file, pair)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_killed_run_ends_bit_identical(finished, no_figures, chain, small, tmp_path):
    """The run has all that changes from step to step: patches, latent draws, warm-up, a falling rate, rare checkpoints."""
    prior = ["--prior", "deep_weight", "--prior.path", str(chain / "runs" / "prior" / "prior.safetensors")]
    flags = [*small["svi_target"], *prior, *LONG, *HARD]
    finished(tmp_path, "svi_target", *flags, "--name", "whole")
    command = [sys.executable, str(ROOT / "tests" / "run" / "killed_run.py"), str(SEED), str(KILLS), "killed", *flags]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}  # for tests.helpers
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert [int(word) for word in done.stdout.split()] == [-signal.SIGKILL] * KILLS + [0], done.stderr
    killed, whole = tmp_path / "runs" / "killed", tmp_path / "runs" / "whole"
    check_equal(killed, whole)
    assert (
        read(tmp_path, "metrics", "whole")["elbo"]["rate/posterior"] < 1e-4
    )  # so the rule that lowers it was resumed too
    assert (killed / "config.yaml").read_text().count("- command: svi_target.py") == KILLS + 1


@pytest.fixture(params=["svi_target", "train_source"])
def flags(request, data, no_figures, small) -> list[str]:
    """Script and flags, but for the name, of a run on the six scans in `data`, which may grow or shrink."""
    return [request.param, *small[request.param], *PAIRS]


@pytest.fixture
def ctrl_c(monkeypatch) -> Callable[[Any, str, int], list[Any]]:
    """Return a function that has Ctrl-C pressed, or another signal sent, in the n-th call of a function, and lists the calls."""

    def press(owner: Any, name: str, number: int, sent: signal.Signals = signal.SIGINT) -> list[Any]:
        calls, original = [], getattr(owner, name)

        def watched(*arguments: Any, **named: Any) -> Any:
            calls.append(arguments)
            if len(calls) == number:
                signal.raise_signal(sent)
            return original(*arguments, **named)

        monkeypatch.setattr(owner, name, watched)
        return calls

    return press


def test_a_run_keeps_its_split_and_names_scans_that_have_gone(refused, finished, data, flags, tmp_path):
    finished(tmp_path, *flags, "--name", "run")
    split = read(tmp_path, "split")
    for part in ("images", "labels"):
        shutil.copy(data / part / "tumour_003.nii.gz", data / part / "a_new_one.nii.gz")
    finished(tmp_path, *flags, "--name", "run", "--resume")
    assert read(tmp_path, "split") == split
    finished(tmp_path, *flags, "--name", "drawn_anew")
    assert read(tmp_path, "split", "drawn_anew") != split
    gone = split["train"][0]
    left = {name for part in split.values() for name in part} - {gone}  # too few for a new split
    for path in data.rglob("*.nii.gz"):
        if path.name.removesuffix(".nii.gz") not in left:
            path.unlink()
    refused(["runs/run/split.json", gone], *flags, "--name", "run", "--resume")


SOURCE_STOPS = {2: signal.SIGINT, 4: signal.SIGHUP, 7: signal.SIGTERM}
STOPS = [("svi_target", 2, signal.SIGTERM), *(("train_source", *stop) for stop in SOURCE_STOPS.items())]


@pytest.mark.parametrize(("flags", "step", "sent"), STOPS, indirect=["flags"])
def test_a_run_that_replaced_another_and_was_stopped_goes_on(call, finished, flags, step, sent, tmp_path, ctrl_c):
    finished(tmp_path, *flags, "--name", "run")
    shutil.copytree(tmp_path / "runs" / "run", tmp_path / "whole")
    task, steps = (VariationalTask, 2) if flags[0] == "svi_target" else (PointTask, 8)
    taken = ctrl_c(task, "step", step, sent)
    stopped = call(tmp_path, *flags, "--name", "run", "--overwrite")
    assert (stopped.status, stopped.err.strip().count("\n")) == (128 + sent, 0)
    assert "--resume" in stopped.err
    finished(tmp_path, flags[0], "--resume", "--name", "run")
    assert len(taken) == steps + 1  # the one that was stopped is done again
    check_equal(tmp_path / "runs" / "run", tmp_path / "whole")


@pytest.mark.parametrize(("flags", "name"), [("svi_target", "run"), ("svi_target", None)], indirect=["flags"])
def test_after_ctrl_c_among_the_test_scans_only_predictions_are_done_again(
    call, finished, flags, tmp_path, ctrl_c, name
):
    finished(tmp_path, *flags, "--name", "whole")
    steps, predicted = (
        ctrl_c(VariationalTask, "step", 0),
        ctrl_c(Predictor, "predict", 3),
    )  # a validation and two test scans
    stopped = call(tmp_path, *flags, *(["--name", name] if name else []))
    name = name or "svi_target-quick-001"
    cure = f"--resume --name {name}"
    assert (stopped.status, stopped.err.strip().count("\n")) == (130, 0)
    assert cure in stopped.err
    assert not (tmp_path / "runs" / name / "metrics.json").exists()
    trained = len(steps)
    finished(tmp_path, "svi_target", *cure.split())
    assert (trained, len(steps), len(predicted)) == (2, 2, 6)
    assert read(tmp_path, "metrics", name)["test"] == read(tmp_path, "metrics", "whole")["test"]


def test_ctrl_c_before_anything_is_trained_leaves_no_run_nor_a_word(call, flags, tmp_path, ctrl_c):
    ctrl_c(layouts, "read_scan", 1)
    stopped = call(tmp_path, *flags, "--name", "run")
    assert (stopped.status, stopped.err.strip()) == (130, "Stopped.")
    command = [sys.executable, "-c", PRESS, str(ROOT / "run" / f"{flags[0]}.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
    assert not (tmp_path / "runs").exists()
