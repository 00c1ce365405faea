"""Signals, a closed terminal, a full disk: a run ends in one line, and is resumed as if nothing had been."""

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from pyro_dwp.predict import Predictor
from pyro_dwp.train import VariationalTask
from tests.helpers.full_disk import fill, small_disk
from tests.run.test_resume import ROOT, check_equal

LONG = ["--schedule.epochs", "100000", "--schedule.validate_every", "null", "--name", "run"]


def started(folder: Path, flags: list[str]) -> list[str]:
    """Return the command of a run that lasts until it is stopped."""
    return [sys.executable, str(ROOT / "run" / "svi_target.py"), *flags, *LONG]


def wait_until_trained(folder: Path) -> None:
    history = folder / "runs" / "run" / "history.json"
    end = time.monotonic() + 100
    while not (history.exists() and json.loads(history.read_text())["rows"]):
        assert time.monotonic() < end
        time.sleep(0.05)


def check_kept(folder: Path) -> None:
    """Check that the checkpoint of a stopped run can be read, and that nothing half-written is left."""
    assert load_file(folder / "runs" / "run" / "checkpoint" / "last.safetensors")
    assert not list((folder / "runs").rglob(".*"))


def test_after_sigterm_a_run_that_had_slept_ends_with_one_line_however_often_it_is_told(small, tmp_path):
    command = started(tmp_path, small["svi_target"])
    run = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until_trained(tmp_path)
    run.send_signal(signal.SIGSTOP)  # as the lid of a laptop does
    time.sleep(0.5)
    run.send_signal(signal.SIGCONT)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGTERM):
        run.send_signal(number)
        time.sleep(0.01)
    out, err = run.communicate(timeout=60)
    assert (run.returncode, err.strip().count("\n")) == (128 + signal.SIGTERM, 0), err
    assert "--resume" in err
    assert "about " in out.splitlines()[-1]
    check_kept(tmp_path)


def test_after_its_terminal_was_closed_a_run_has_kept_its_state(small, tmp_path):
    command = started(tmp_path, small["svi_target"])
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        os.execv(command[0], command)
    shown, end = "", time.monotonic() + 100
    while "left" not in shown and time.monotonic() < end:
        shown += os.read(terminal, 4096).decode(errors="replace")
    wait_until_trained(tmp_path)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 128 + signal.SIGHUP
    check_kept(tmp_path)


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that has an action done in the n-th call of a method, before the call."""

    def plan(owner: object, name: str, number: int, action: Callable[[], object]) -> None:
        calls, original = [], getattr(owner, name)

        def watched(*arguments: object, **named: object) -> object:
            calls.append(arguments)
            if len(calls) == number:
                action()
            return original(*arguments, **named)

        monkeypatch.setattr(owner, name, watched)

    return plan


FULL = {"in training": (VariationalTask, "step", 2), "in prediction": (Predictor, "predict", 2)}


@pytest.mark.parametrize(("moment", "left"), [("in training", 0), ("in training", 9000), ("in prediction", 0)])
def test_a_full_disk_is_one_line_and_what_was_kept_goes_on_when_there_is_space(
    moment, left, call, finished, small, no_figures, at, tmp_path
):
    flags = [*small["svi_target"], "--name", "run"]
    finished(tmp_path, "svi_target", *flags)
    shutil.move(tmp_path / "runs", tmp_path / "whole")
    with small_disk(tmp_path / "runs", 4) as disk:
        at(*FULL[moment], lambda: fill(disk, left))
        stopped = call(tmp_path, "svi_target", *flags)
        assert (stopped.status, stopped.err.count("\n")) == (2, 1), stopped.err
        assert "runs/run/" in stopped.err
        assert "cannot be written (No space left on device)" in stopped.err
        assert "free some space" in stopped.err
        assert "--resume --name run" in stopped.err
        check_kept(tmp_path)
        (disk / "filler").unlink()
        finished(tmp_path, "svi_target", "--resume", "--name", "run")
        check_equal(disk / "run", tmp_path / "whole" / "run")


def test_figures_that_cannot_be_drawn_lose_no_score(call, small, monkeypatch, tmp_path):
    def broken(*arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("pyro_dwp.report.draw_run", broken)
    with pytest.raises(ZeroDivisionError):
        call(tmp_path, "svi_target", *small["svi_target"], "--name", "run")
    assert json.loads((tmp_path / "runs" / "run" / "metrics.json").read_text())["test"]["mean"]["dice"] >= 0
