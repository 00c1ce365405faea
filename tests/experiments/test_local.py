"""The pool of this machine: what runs at the same time, what never fits, how long it all takes."""

import json
from pathlib import Path

import pytest
import yaml

from pyro_dwp.errors import ConfigError
from pyro_dwp.experiments import Job, Local
from pyro_dwp.experiments.estimate import estimate_seconds, time_to_go
from pyro_dwp.experiments.live import listing
from tests.helpers.refusal import refuses


@pytest.fixture
def running(monkeypatch):
    """Return a function that starts jobs in a pool, without any process, and returns them with their GPUs."""

    def start(engine, *jobs):
        monkeypatch.setattr(engine, "_attempt", lambda *arguments: "")
        engine.start(jobs)
        return dict(engine.running.values())

    return start


def job(name, group="", **settings):
    return Job(Path("run/svi_target.py"), Path("runs/small", name), {"threads": 1} | settings, (), group)


def finished(name, seconds, group=""):
    """Return a job that took this long, by what its metrics state."""
    made = job(name, group)
    made.folder.mkdir(parents=True)
    (made.folder / "config.yaml").write_text(yaml.safe_dump({}))
    (made.folder / "metrics.json").write_text(json.dumps({"seconds": float(seconds)}))
    return made


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_cores_are_shared_out_and_a_small_job_passes_a_large_one(running):
    large, small, other = job("large", threads=3), job("small"), job("other", threads=3)
    assert list(running(Local(cores=4), large, other, small)) == [large, small]
    assert list(running(Local(cores=4), small, job("all", threads=None))) == [small]


def test_memory_bounds_the_number_of_jobs(running):
    jobs = [job(str(number)) for number in range(5)]
    assert len(running(Local(cores=5, memory_gib=7, job_memory_gib=2), *jobs)) == 3


def test_each_job_on_a_gpu_gets_one_of_its_own(running, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    jobs = [job(str(number), device="cuda") for number in range(3)]
    assert running(Local(cores=4), *jobs) == {jobs[0]: "2", jobs[1]: "5"}
    assert Local(cores=4).width(jobs[0]) == 2


@pytest.mark.parametrize(
    ("settings", "parts"), [({"threads": 3}, ["3 threads", "where.cores is 2"]), ({"device": "cuda"}, ["no GPU"])]
)
def test_a_job_that_never_fits_is_refused(settings, parts):
    with refuses(*parts, error=ConfigError):
        Local(cores=2, gpus=0).check([job("large", **settings)])


def test_a_job_is_expected_to_take_the_median_of_its_group_or_else_of_its_script():
    done = [finished(f"a{seconds}", seconds, "a") for seconds in (10, 20, 60)] + [finished("b", 100, "b")]
    other = Job(Path("run/other.py"), Path("runs/small/c"), {})
    left = [job("a", "a"), job("b2", "b"), job("d", "d"), other]
    for guess, expected in ((7, 7), (None, 40)):
        found = estimate_seconds([*done, *left], guess)
        assert [found[one] for one in left] == [20, 100, 40, expected]
    assert estimate_seconds(left) == dict.fromkeys(left)


def test_a_failure_is_the_error_of_a_script_that_ended_and_the_last_line_of_one_that_was_killed():
    failed = job("failed")
    failed.folder.parent.mkdir(parents=True)
    failed.log.write_text(
        "epoch 1\nerror: the first attempt\nTraceback:\n  torch.LinAlgError: no factor\n Trace Shapes:\n"
    )
    assert failed.failure(1) == "torch.LinAlgError: no factor"
    assert failed.failure(-9) == "killed by SIGKILL; last line: Trace Shapes:"
    assert failed.failure(2, "error: no disk\n") == "no disk"


def test_the_time_to_go_shares_the_work_out_but_is_no_shorter_than_the_longest_job():
    jobs = [job(str(number)) for number in range(4)]
    assert time_to_go(dict.fromkeys(jobs, 10.0), {jobs[0]: 4.0}, Local(cores=2)) == 18
    assert time_to_go({jobs[0]: 100.0, jobs[1]: 10.0}, {}, Local(cores=2)) == 100
    assert time_to_go({jobs[0]: None}, {}, Local(cores=2)) is None


def test_a_dry_run_lists_each_job_with_its_needs_and_time(plan):
    made = plan(shared={"source": {"script": "train_source"}}, common={"bank": "@source/bank.safetensors"})
    first, *others, last = listing(made, Local(cores=2), 60.0).splitlines()
    source = made.jobs[0]
    assert first == f"train_source {source.folder}: 60 s"
    assert all(line.endswith(f": 60 s, needs {source.name}") for line in others)
    assert last == "3 jobs, 3 of them not done; time to go: 2 min"
