"""A run that was stopped: killed at any moment, stopped by Ctrl-C, or resumed when the folder of scans has changed."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

RUN = Path(__file__).parents[2] / "run"
LAST = Path("checkpoint") / "last.safetensors"
EPOCHS = 12
LONG = ["--schedule.epochs", str(EPOCHS), "--schedule.validate_every", "4", "--schedule.batch_size", "1"]
GAUSSIAN = ["--prior", "gaussian"]


@pytest.fixture
def flags(phantom_flags: list[str], target_flags: list[str]) -> list[str]:
    return [*phantom_flags, *GAUSSIAN, *target_flags, *LONG]


def process(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(RUN / "svi_target.py"), *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait_for(condition: Callable[[], bool], running: subprocess.Popen[str]) -> None:
    for _ in range(6_000):
        if condition() or running.poll() is not None:
            return
        time.sleep(0.01)


def test_a_run_killed_at_a_random_step_and_resumed_ends_bit_identical(
    finished: Callable, no_figures: None, flags: list[str], tmp_path: Path
) -> None:
    finished(tmp_path, "svi_target", *flags, "--name", "whole")
    killed = tmp_path / "runs" / "killed"
    running = process(tmp_path, *flags, "--name", "killed")
    wait_for((killed / LAST).exists, running)
    time.sleep(random.Random(7).uniform(0.0, 0.3))  # some epochs later, in the middle of a step
    running.send_signal(signal.SIGKILL)
    running.communicate()
    assert running.returncode == -signal.SIGKILL, "the run was over before it could be killed"
    assert not (killed / "metrics.json").exists()
    finished(tmp_path, "svi_target", "--resume", "--name", "killed")
    ours, theirs = load_file(killed / LAST), load_file(tmp_path / "runs" / "whole" / LAST)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    one, other = (json.loads((tmp_path / "runs" / name / "metrics.json").read_text()) for name in ("killed", "whole"))
    assert one["test"] == other["test"]
    assert one["weight_scales"] == other["weight_scales"]


def test_ctrl_c_leaves_a_checkpoint_and_says_how_to_resume(flags: list[str], tmp_path: Path) -> None:
    running = process(tmp_path, *flags, "--schedule.epochs", "5000", "--name", "stopped")
    wait_for((tmp_path / "runs" / "stopped" / LAST).exists, running)
    time.sleep(0.3)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate()
    assert running.returncode == 130
    assert "--resume" in said
    assert "Traceback" not in said
    assert (tmp_path / "runs" / "stopped" / LAST).exists()


def test_a_resumed_run_keeps_its_split_when_a_scan_has_come(
    finished: Callable, no_figures: None, target_flags: list[str], nifti_tumours: Path, tmp_path: Path
) -> None:
    shutil.copytree(nifti_tumours, tmp_path / "scans")
    data = ["--data", "folder_pairs", "--data.images", "scans/images", "--data.labels", "scans/labels"]
    finished(tmp_path, "svi_target", *data, *GAUSSIAN, *target_flags, "--name", "run")
    split = (tmp_path / "runs" / "run" / "split.json").read_text()
    for kind in ("images", "labels"):
        shutil.copy(tmp_path / "scans" / kind / "tumour_001.nii.gz", tmp_path / "scans" / kind / "a_new_one.nii.gz")
    finished(tmp_path, "svi_target", "--resume", "--name", "run", "--schedule.epochs", "3")
    assert (tmp_path / "runs" / "run" / "split.json").read_text() == split


def test_a_resumed_run_whose_scan_is_gone_names_it(
    finished: Callable, call: Callable, no_figures: None, target_flags: list[str], nifti_tumours: Path, tmp_path: Path
) -> None:
    shutil.copytree(nifti_tumours, tmp_path / "scans")
    data = ["--data", "folder_pairs", "--data.images", "scans/images", "--data.labels", "scans/labels"]
    finished(tmp_path, "svi_target", *data, *GAUSSIAN, *target_flags, "--name", "run")
    gone = json.loads((tmp_path / "runs" / "run" / "split.json").read_text())["train"][0]
    for kind in ("images", "labels"):
        (tmp_path / "scans" / kind / f"{gone}.nii.gz").unlink()
    done = call(tmp_path, "svi_target", "--resume", "--name", "run")
    assert done.status == 2
    assert f"split.json names cases that are no longer there: {gone}" in done.err


def test_a_run_begun_with_overwrite_is_resumed(
    finished: Callable, no_figures: None, phantom_flags: list[str], target_flags: list[str], tmp_path: Path
) -> None:
    small = [*phantom_flags, *GAUSSIAN, *target_flags, "--name", "run"]
    finished(tmp_path, "svi_target", *small)
    finished(tmp_path, "svi_target", *small, "--overwrite")
    finished(tmp_path, "svi_target", "--name", "run", "--resume", "--schedule.epochs", "3")


@pytest.mark.parametrize("machine", [["--device", "gpu"], ["--device", "cuda:99"], ["--threads", "0"]])
def test_a_machine_that_is_not_there_is_one_line_and_leaves_no_folder(
    call: Callable, flags: list[str], machine: list[str], tmp_path: Path
) -> None:
    done = call(tmp_path, "svi_target", *flags, "--name", "run", *machine)
    assert done.status == 2
    assert len(done.err.splitlines()) == 1
    assert machine[0] in done.err
    assert not (tmp_path / "runs").exists()
