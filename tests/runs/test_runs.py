"""The folder of a run: begun, refused, resumed, removed after a failure."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pyro_dwp.errors import DataError
from pyro_dwp.runs import read_config
from pyro_dwp.runs.folder import differences
from tests.helpers import sample

RUNS = Path("runs")


def test_calling_a_script_twice_keeps_both_results(call):
    assert call() == call() == call("--config", "other") == 0
    assert sorted(path.name for path in RUNS.iterdir()) == ["sample-other-001", "sample-quick-001", "sample-quick-002"]


def test_the_config_of_a_run_says_every_setting_and_where_it_comes_from(call):
    assert call("--name", "a/b", "--seed", "4") == call("--resume", "--name", "a/b") == 0
    config = yaml.safe_load((RUNS / "a" / "b" / "config.yaml").read_text())
    assert config["seed"] == 4
    assert config["prior"] == {"class": "pyro_dwp.Gaussian", "scale": None, "gain": 0.1}
    first, second = config["provenance"]
    assert first["command"] == "sample.py --name a/b --seed 4"
    assert "--resume" in second["command"]
    assert first["versions"]["torch"]
    assert "provenance" not in read_config(RUNS / "a" / "b")


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        ("--name taken", ["--resume", "--overwrite", "--name"]),
        ("--name folder", ["folder", "not a run"]),
        ("--name folder --overwrite", ["not a run"]),
        ("--overwrite", ["--name"]),
        ("--name taken --resume --overwrite", ["one of them"]),
        ("--name takn --resume", ["Did you mean 'taken'"]),
        ("--name taken --resume --seed 3", ["seed was 0 and is now 3"]),
        ("--name taken --resume --length.epochs 2", ["length.epochs was 3 and is now 2"]),
        ("--name ../elsewhere", ["below runs/"]),
        ("--name /tmp/elsewhere", ["below runs/"]),
        ("--name .", ["below runs/"]),
        ("--resume", ["no numbered run", "--name"]),
    ],
)
def test_what_cannot_be_begun_is_refused_before_there_is_a_run(call, refused, flags, parts):
    assert call("--name", "taken") == 0
    (RUNS / "folder").mkdir()
    (RUNS / "folder" / "thesis.txt").write_text("mine")
    sample.CALLS.clear()
    error = refused(*flags.split())
    assert not sample.CALLS
    assert [part for part in parts if part not in error] == []


def test_overwrite_replaces_a_run_only_when_the_new_one_begins(call):
    assert call("--name", "a") == 0
    (RUNS / "a" / "old").write_text("")
    assert call("--name", "a", "--overwrite", "--prior", "nonsense") == 2
    assert (RUNS / "a" / "old").exists()
    assert call("--name", "a", "--overwrite", "--seed", "3") == 0
    assert not (RUNS / "a" / "old").exists()


def test_resuming_reads_the_settings_of_the_run(received):
    received("--config", "other", "--length.epochs", "5", "--name", "a")
    again = received("--resume", "--name", "a", "--length.epochs", "6")
    assert (again["seed"], again["length"].epochs, again["run"].resumed) == (7, 6, True)


def test_resuming_without_a_name_continues_the_run_begun_last(call):
    assert call() == call("--name", "named") == call() == call("--resume") == 0
    assert sample.CALLS[-1]["run"].folder == RUNS / "sample-quick-002"


@pytest.mark.parametrize("fail", ["bad", "bug", "ctrl-c"])
@pytest.mark.parametrize("after", [False, True])
def test_a_failure_keeps_results_and_otherwise_leaves_the_name_free(call, capsys, fail, after):
    flags = ["--name", "a", "--fail", fail, *(["--after"] if after else [])]
    if fail == "bug":
        with pytest.raises(ZeroDivisionError):
            call(*flags)
    else:
        assert call(*flags) == {"bad": 2, "ctrl-c": 130}[fail]
    assert (RUNS / "a").exists() == after
    if fail == "ctrl-c":
        assert ("--resume --name a" in capsys.readouterr().err) == after


@pytest.mark.parametrize("left", ["config.yaml", ".config.a1b2c3.yaml"])
def test_a_run_killed_before_its_first_checkpoint_leaves_the_name_free(call, left):
    (RUNS / "a").mkdir(parents=True)
    (RUNS / "a" / left).write_text("seed: 1\n")
    assert call("--name", "a") == 0


def test_runs_that_cannot_be_a_folder_are_named_first(refused):
    RUNS.write_text("")
    assert "runs" in refused()


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(DataError, match=str(tmp_path)):
        read_config(tmp_path)


def test_only_what_matters_to_a_result_counts_as_a_difference():
    before = {"seed": 1, "device": "cpu", "schedule": {"epochs": 5, "rate": 1}, "name": "a"}
    assert differences(before, {**before, "device": "cuda", "name": "b", "schedule": {"epochs": 6, "rate": 1}}) == []
    assert len(differences(before, {**before, "schedule": {"epochs": 4, "rate": 2}, "new": 1})) == 3


def test_a_plateau_may_grow_longer_but_not_a_cosine_whose_rates_follow_from_its_length():
    for decay, changed in (("plateau", 0), ("cosine", 1)):
        for length in ("epochs", "steps"):
            before, after = ({"schedule": {length: count, "decay": decay}} for count in (5, 6))
            assert len(differences(before, after)) == changed


@pytest.mark.parametrize("arguments", ["--help", "--name a"])
def test_a_script_runs_from_any_folder_and_a_reader_that_leaves_is_no_error(tmp_path, arguments):
    command = f"{sys.executable} -m tests.helpers.sample {arguments} | true; exit ${{PIPESTATUS[0]}}"
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin", "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode in (0, 141)
    assert done.stderr == ""
