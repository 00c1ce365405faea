"""Folders of runs: numbered, never lost silently, and resumed only as themselves."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pyro_dwp.cli import begin_run, load_config, run_folder, write_json
from pyro_dwp.errors import ConfigError, DataError


def test_calling_a_script_twice_keeps_both_results(call: Callable, tmp_path: Path) -> None:
    assert call() == call() == call("--config", "other") == 0
    names = ["sample_script-other-001", "sample_script-quick-001", "sample_script-quick-002"]
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == names


def test_a_taken_name_is_refused_with_three_cures(refused: Callable, call: Callable) -> None:
    call("--name", "mine")
    error = refused("--name", "mine")
    assert all(part in error for part in ("runs/mine", "--resume", "--name", "--overwrite"))


def test_overwrite_replaces_a_run(call: Callable, tmp_path: Path) -> None:
    call("--name", "mine")
    (tmp_path / "runs" / "mine" / "old").touch()
    assert call("--name", "mine", "--overwrite") == 0
    assert not (tmp_path / "runs" / "mine" / "old").exists()


def test_overwrite_deletes_no_folder_that_is_no_run(refused: Callable, tmp_path: Path) -> None:
    (tmp_path / "runs" / "photos").mkdir(parents=True)
    (tmp_path / "runs" / "photos" / "one.png").touch()
    assert "not a run" in refused("--name", "photos", "--overwrite")
    assert (tmp_path / "runs" / "photos" / "one.png").exists()


@pytest.mark.parametrize("name", ["../elsewhere", "/tmp/elsewhere", ".", ""])
def test_a_name_stays_below_the_folder_of_runs(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="--name"):
        run_folder(name, tmp_path)


def test_resuming_an_unknown_run_names_the_nearest(refused: Callable, call: Callable) -> None:
    call("--name", "tumour")
    assert "Did you mean 'tumour'" in refused("--name", "tumor", "--resume")


def test_resuming_without_any_run_is_an_error(refused: Callable) -> None:
    assert "--name" in refused("--resume")


def test_resuming_without_a_name_continues_the_latest_run(call: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    call()
    call("--config", "other")
    call()
    capsys.readouterr()
    assert call("--resume", "--schedule.epochs", 6) == 0
    assert "6 epochs in runs/sample_script-quick-002" in capsys.readouterr().out
    assert call("--resume", "--config", "other") == 0
    assert "runs/sample_script-other-001" in capsys.readouterr().out


def test_resuming_reads_the_settings_of_the_run(received: Callable) -> None:
    received("--name", "mine", "--seed", 5, "--prior.gain", 4)
    arguments = received("--name", "mine", "--resume")
    assert (arguments["seed"], arguments["prior"].gain) == (5, 4)


def test_resuming_with_other_settings_lists_them(refused: Callable, call: Callable) -> None:
    call("--name", "mine")
    error = refused("--name", "mine", "--resume", "--seed", 5, "--prior.gain", 4)
    assert "seed: 0 in the run, 5 now" in error
    assert "prior.init_args.gain: 0.1 in the run, 4.0 now" in error
    assert "schedule" not in error
    assert "seed: 7 now" in refused("--name", "mine", "--resume", "--config", "other").replace("0 in the run, ", "")


def test_a_resumed_schedule_may_grow_but_not_shrink(refused: Callable, received: Callable) -> None:
    received("--name", "mine")
    assert received("--name", "mine", "--resume", "--schedule.epochs", 5, "--max_seconds", 60)["schedule"].epochs == 5
    assert "schedule.epochs: 5 in the run, 4 now" in refused("--name", "mine", "--resume", "--schedule.epochs", 4)


def test_resume_and_overwrite_exclude_each_other(refused: Callable, call: Callable) -> None:
    call("--name", "mine")
    assert "one of them" in refused("--name", "mine", "--resume", "--overwrite")


def test_overwrite_needs_a_name(refused: Callable) -> None:
    assert "--name" in refused("--overwrite")


def test_a_failed_resumption_deletes_nothing(refused: Callable, call: Callable, tmp_path: Path) -> None:
    call("--name", "mine")
    refused("--name", "mine", "--resume", "--seed", 5)
    assert (tmp_path / "runs" / "mine" / "checkpoint").is_dir()


def test_the_config_of_a_run_reads_back_as_the_same_config(call: Callable, tmp_path: Path) -> None:
    call(
        "--name",
        "first",
        "--guide",
        "point",
        "--preprocess.label_map",
        "{1: 1, 2: 1}",
        "--preprocess.grid",
        "[8, 8, 8]",
    )
    assert call("--name", "second", "--config", "runs/first/config.yaml", "--name", "second") == 0
    first, second = load_config(tmp_path / "runs" / "first"), load_config(tmp_path / "runs" / "second")
    assert {**first, "name": "second"} == second


def test_a_class_from_a_users_file_is_found_again_from_another_folder(
    received: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text("from pyro_dwp.priors import Gaussian\n\n\nclass Mine(Gaussian):\n    pass\n")
    received("--name", "first", "--prior", "mine.py:Mine")
    config = load_config("runs/first")
    assert config["prior"]["class_path"] == f"{tmp_path / 'mine.py'}:Mine"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert (
        type(received("--config", tmp_path / "runs/first/config.yaml", "--name", "again")["prior"]).__name__ == "Mine"
    )


def test_every_start_of_a_run_is_recorded(call: Callable, tmp_path: Path) -> None:
    call("--name", "mine")
    call("--name", "mine", "--resume")
    starts = yaml.safe_load((tmp_path / "runs" / "mine" / "config.yaml").read_text())["provenance"]
    assert [start["command"] for start in starts] == [
        "sample_script.py --name mine",
        "sample_script.py --name mine --resume",
    ]
    assert {"torch", "pyro-ppl", "monai", "pyro-dwp"} <= starts[0]["versions"].keys()


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"config\.yaml"):
        load_config(tmp_path)


def test_a_run_begins_without_a_command_line_too(tmp_path: Path) -> None:
    assert begin_run("script", None, root=tmp_path) == tmp_path / "script-001"
    assert begin_run("script", None, root=tmp_path) == tmp_path / "script-002"


def test_json_is_written_whole(tmp_path: Path) -> None:
    write_json(tmp_path / "new" / "metrics.json", {"dice": 0.5})
    assert json.loads((tmp_path / "new" / "metrics.json").read_text()) == {"dice": 0.5}
    assert len(list((tmp_path / "new").iterdir())) == 1
