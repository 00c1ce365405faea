"""An experiment that is killed at any moment and started again does what is missing, and nothing twice."""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from pyro_dwp.experiments.lock import locked
from tests.experiments.conftest import count, notes, wait_for

LONG = {"common": {"steps": 4, "pause": 0.1}, "splits": 3, "where": {"class": "local", "cores": 2}}


def test_after_a_runner_is_killed_its_jobs_go_on_and_the_next_runner_begins_none_of_them_again(begin):
    draw = random.Random(0)
    for _ in range(3):
        before, runner = len(notes()), begin(**LONG)
        wait_for(lambda before=before: len(notes()) > before)
        time.sleep(draw.uniform(0, 0.6))
        runner.kill()
        runner.communicate()
    out, err = begin(**LONG).communicate(timeout=100)
    assert (err, len(count("begin"))) == ("", 6), out
    assert set(count("begin").values()) == set(count("end").values()) == {1}
    assert not count("resume")
    rows = json.loads(Path("runs/small/experiment.json").read_text())["rows"]
    assert [row["status"] for row in rows] == ["done"] * 6


def test_a_job_that_is_killed_is_reported_and_resumed_the_next_time(begin):
    runner = begin(**LONG)
    wait_for(notes)
    _, job, process = notes()[0]
    wait_for((Path("runs/small") / job / "checkpoint").exists)
    os.kill(int(process), signal.SIGKILL)
    out, err = runner.communicate(timeout=100)
    assert (runner.returncode, err.count("\n")) == (2, 1)
    assert "killed by SIGKILL" in out
    assert sum(count("end").values()) == 5
    out, err = begin(**LONG).communicate(timeout=100)
    assert (err, count("resume")) == ("", {job: 1})
    assert set(count("begin").values()) == set(count("end").values()) == {1}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=str)
def test_a_signal_stops_all_jobs_with_one_line_that_says_how_to_go_on(begin, number):
    runner = begin(**LONG)
    wait_for(lambda: len(notes()) >= 2)
    time.sleep(0.1)
    runner.send_signal(number)
    _, err = runner.communicate(timeout=100)
    assert (runner.returncode, err.strip().count("\n")) == (128 + number, 0)
    assert "same command again" in err
    begun = notes()
    time.sleep(0.6)
    assert notes() == begun
    assert len(begun) < 12


def test_a_second_runner_is_refused_in_one_line_that_names_the_first(begin):
    with locked(Path("runs/small")):
        second = begin(**LONG)
        _, err = second.communicate(timeout=100)
    assert (second.returncode, err.count("\n"), notes()) == (2, 1, [])
    assert f"runs/small is being run by process {os.getpid()} " in err


@pytest.mark.parametrize("left", [["config.yaml"], ["split.json"], ["config.yaml", "checkpoint"]], ids=str)
def test_an_attempt_resumes_what_was_trained_and_begins_anew_where_nothing_was(plan, left):
    job = plan(methods={"a": {}}).jobs[0]
    job.folder.mkdir(parents=True)
    for name in left:
        (job.folder / name).write_text("0")
    for _ in range(2):  # the second finds the job done
        subprocess.run(job.command(), check=True)
    assert [event for event, *_ in notes()] == ["resume" if "checkpoint" in left else "begin", "end"]
    assert job.done


def test_a_full_disk_ends_the_runner_in_one_line(begin):
    Path("runs/small/experiment.json").mkdir(parents=True)  # as little to be replaced as a file on a full disk
    runner = begin(**LONG)
    _, err = runner.communicate(timeout=100)
    assert (runner.returncode, err.count("\n")) == (2, 1)
    assert "experiment.json cannot be written" in err
