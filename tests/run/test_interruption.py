"""A run that is killed again and again ends as if nothing had happened."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

Call = Callable[..., Any]
SCRIPT = Path(__file__).with_name("killed_run.py")
SEED = 71856  # kills in a step, as a checkpoint is written, in a step, among the test scans, as a map is written
KILLS = 5
TIMES = {"seconds", "seconds_per_step"}
LONG = ["--schedule.epochs", "6", "--schedule.batch_size", "1", "--schedule.patience", "0", "--schedule.threshold", "1"]
HARD = ["--draws", "2", "--warm_up", "5", "--clip_norm", "10", "--schedule.checkpoint_every", "2"]


@pytest.fixture(scope="module")
def flags(chain: Path, phantom_flags: list[str], target_flags: list[str]) -> list[str]:
    """A run with all that changes from step to step: latent draws, warm-up, a falling rate, rare checkpoints."""
    prior = ["--prior", "deep_weight", "--prior.path", str(chain / "runs" / "prior" / "prior.safetensors")]
    return [*phantom_flags, *prior, *target_flags, *LONG, *HARD]


@pytest.fixture(scope="module")
def whole(finished: Call, flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nobody killed."""
    folder = tmp_path_factory.mktemp("whole")
    finished(folder, "svi_target", *flags, "--name", "whole")
    return folder / "runs" / "whole"


@pytest.fixture(scope="module")
def killed(flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, killed at random moments."""
    folder = tmp_path_factory.mktemp("killed")
    command = [sys.executable, str(SCRIPT), str(SEED), str(KILLS), "killed", *flags]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    statuses = [int(word) for word in done.stdout.split()]
    assert statuses == [-signal.SIGKILL] * KILLS + [0], done.stderr
    return folder / "runs" / "killed"


def untimed(value: Any) -> Any:
    """Leave out of metrics what no two runs have in common."""
    if not isinstance(value, dict):
        return value
    return {key: untimed(item) for key, item in value.items() if key not in TIMES | {"peak_memory_mib"}}


def test_its_checkpoint_is_bit_identical(whole: Path, killed: Path) -> None:
    ours, theirs = (load_file(folder / "checkpoint" / "last.safetensors") for folder in (killed, whole))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_its_metrics_are_the_same_but_for_times(whole: Path, killed: Path) -> None:
    ours, theirs = (json.loads((folder / "metrics.json").read_text()) for folder in (killed, whole))
    assert ours.keys() == theirs.keys()
    assert untimed(ours) == untimed(theirs)
    assert theirs["elbo"]["rate/theta"] < 1e-4  # so the rule that lowers it was resumed too


def test_its_predictions_are_the_same_and_no_half_written_file_is_among_them(whole: Path, killed: Path) -> None:
    ours, theirs = (sorted((folder / "predictions").glob("*.nii.gz")) for folder in (killed, whole))
    assert [path.name for path in ours] == [path.name for path in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert np.array_equal(nib.load(one).get_fdata(), nib.load(other).get_fdata())


def test_every_start_is_recorded(killed: Path) -> None:
    starts = (killed / "config.yaml").read_text().count("- command: svi_target.py")
    assert starts == KILLS + 1
