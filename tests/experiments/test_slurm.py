"""Jobs through submitit, with its imitation of a cluster: submitted as command lines, preempted, queued again and resumed."""

import os
import pickletools
import signal
import sys
import time
from pathlib import Path

import pytest

from pyro_dwp.errors import ConfigError
from pyro_dwp.experiments import Slurm, run_jobs
from pyro_dwp.experiments import slurm as slurm_module
from tests.experiments.conftest import count, notes
from tests.helpers.refusal import refuses

pytest.importorskip("submitit")


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Wait briefly for files to appear, and as long as submitit's processes live before a test ends."""
    monkeypatch.setattr(slurm_module, "PATIENCE", 0.5)


def ignore(progress):
    pass


def test_a_preempted_job_is_queued_again_resumes_and_finishes(plan):
    made, engine, interrupted = plan(common={"steps": 12, "pause": 0.4}), Slurm(cluster="local"), []

    def interrupt(progress):
        if len(notes()) >= 2 and not interrupted:
            time.sleep(0.5)
            interrupted.append(True)
            for controller in map(int, engine.handles):  # submitit's process, the child of one that begins it again
                (child,) = Path(f"/proc/{controller}/task/{controller}/children").read_text().split()
                os.kill(int(child), signal.SIGUSR2)  # as Slurm does

    progress = run_jobs(made, engine, ignore, interrupt)
    assert (len(progress.done), progress.failed) == (2, {})
    assert set(count("begin").values()) == set(count("resume").values()) == set(count("end").values()) == {1}


def test_a_job_that_fails_is_reported_and_the_others_finish(plan):
    progress = run_jobs(plan(methods={"a": {}, "b": {"fails": True}}), Slurm(cluster="local"), ignore, ignore)
    assert list(progress.failed.values()) == ["failed, as it was told to"]
    assert sum(count("end").values()) == 1


def test_what_is_submitted_names_nothing_but_submitit_and_a_command(plan):
    run_jobs(plan(methods={"a": {}}), Slurm(cluster="local"), ignore, ignore)
    (path,) = Path("runs/small/.slurm").glob("*_submitted.pkl")
    words = {word for _, word, _ in pickletools.genops(path.read_bytes()) if isinstance(word, str)}
    assert {"submitit.helpers", "FunctionSequence", "subprocess", "check_call", sys.executable} <= words
    assert not {word for word in words if word.startswith(("pyro_dwp.", "models.", "guides."))}


def test_without_slurm_a_run_is_refused_in_one_line(plan, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with refuses("scontrol", "--where local", error=ConfigError):
        run_jobs(plan(), Slurm(), ignore, ignore)


def test_without_submitit_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with refuses("submitit", "pyro-dwp[slurm]", error=ConfigError):
        Slurm()
