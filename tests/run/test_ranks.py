"""svi_target.py under torchrun, when a rank fails: one message, and a checkpoint that one process goes on from."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
TINY = ["--network.channels", "[2,4]", "--schedule.batch_size", "1", "--schedule.epochs", "5"]
MESSAGES = {
    "killed": "error: The processes of this run end together",
    "nan": "loss nan",
    "ctrl-c": "Stopped in epoch 4",
}
SLOW = [pytest.param(how, marks=pytest.mark.slow) for how in ("nan", "ctrl-c")]


def torchrun(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    command = [*TORCHRUN, *map(str, words)]
    return subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, start_new_session=True
    )


@pytest.mark.parametrize("how", ["killed", *SLOW])
def test_a_rank_that_fails_ends_all_with_one_message_and_one_process_resumes(
    how, finished, no_figures, small, tmp_path
):
    """Two scans make one step an epoch; rank 1 fails in the fourth."""
    flags = [*small["svi_target"], *TINY, "--name", "run"]
    done = torchrun(tmp_path, ROOT / "tests" / "run" / "failing_rank.py", how, 4, *flags)
    assert done.returncode != 0
    messages = [line for line in done.stderr.splitlines() if line.startswith(("error: ", "Stopped"))]
    assert len(messages) == 1, done.stderr
    assert MESSAGES[how] in messages[0]
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["run"]
    assert not (tmp_path / "runs" / "run" / "metrics.json").exists()
    finished(tmp_path, "svi_target", "--resume", "--name", "run")
    history = json.loads((tmp_path / "runs" / "run" / "history.json").read_text())
    assert [row["epoch"] for row in history["rows"]] == [1, 2, 3, 4, 5]


def test_a_script_that_does_not_share_its_work_refuses_torchrun_in_one_line(call, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("pyro_dwp.runs.ending.first_to_fail", lambda: True)
    done = call(tmp_path, "train_source")
    assert done.status == 2
    assert done.err == "error: train_source.py runs in one process, but torchrun has started 2. Start it with python.\n"
    assert not list(tmp_path.iterdir())
