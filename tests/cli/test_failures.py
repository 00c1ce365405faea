"""Runs that fail: what has only begun is removed, what is finished stays, and a reader that leaves is no error."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from pyro_dwp.cli import begin_run, run_script
from pyro_dwp.errors import DataError

RAISING = "from pyro_dwp.priors import Gaussian\n\n\nclass Mine(Gaussian):\n    def __init__(self):\n        1 / 0\n"


def test_a_bug_leaves_no_run_so_that_the_name_is_free(
    call: Callable, sample: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sample, "fit", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            call("--name", "mine")
    assert not (tmp_path / "runs").exists()
    assert call("--name", "mine") == 0


def test_a_bug_after_the_training_keeps_what_was_trained(
    call: Callable, sample: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fit = sample.fit
    with monkeypatch.context() as patch:
        patch.setattr(sample, "fit", lambda *arguments, **others: 1 / len(fit(*arguments, **others).rows[:0]))
        with pytest.raises(ZeroDivisionError):
            call("--name", "mine")
    assert (tmp_path / "runs" / "mine" / "checkpoint").is_dir()
    assert call("--name", "mine", "--resume") == 0


def test_a_bug_of_a_users_class_keeps_its_traceback(call: Callable, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(RAISING)
    with pytest.raises(ZeroDivisionError) as raised:
        call("--prior", "mine.py:Mine")
    assert str(raised.traceback[-1].path) == str(tmp_path / "mine.py")


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Return a script that fills folders below its own, each a run or a file, and fails at the last."""
    monkeypatch.chdir(tmp_path)

    def main(files: list[str], name: str | None = None, resume: bool = False, overwrite: bool = False) -> None:
        """Write files.

        Args:
            files: to write.
            name: of the folder.
            resume: continue it.
            overwrite: delete it first.
        """
        folder = begin_run("parts", name, resume, overwrite)
        for file in files:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text("name: x\n")
        if not resume:
            raise DataError("The second fit failed.")

    return lambda *arguments: run_script(main, None, [*arguments])


@pytest.mark.parametrize(
    "file",
    [
        "first/config.yaml",
        "a/b/config.yaml",
        "bank.safetensors",
        "metrics.json",
        "training/checkpoint/last.safetensors",
    ],
)
def test_what_is_finished_in_a_run_that_fails_is_kept_and_the_run_resumes(
    parts: Callable, tmp_path: Path, file: str
) -> None:
    files = f"[split.json, {file}]"
    assert parts("--files", files, "--name", "mine") == 2
    assert (tmp_path / "runs" / "mine" / file).is_file()
    assert yaml.safe_load((tmp_path / "runs" / "mine" / "config.yaml").read_text())["name"] == "mine"
    assert parts("--resume", "--name", "mine") == 0


def test_what_only_began_in_a_run_that_fails_is_removed(parts: Callable, tmp_path: Path) -> None:
    assert parts("--files", "[split.json, sites.json, log/events, first/half.txt]", "--name", "mine") == 2
    assert not (tmp_path / "runs").exists()


def test_an_unknown_run_among_many_is_answered_with_the_nearest_and_a_count(refused: Callable, tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / "runs" / f"experiment-{number:02d}").mkdir(parents=True)
        (tmp_path / "runs" / f"experiment-{number:02d}" / "config.yaml").touch()
    error = refused("--resume", "--name", "experimnt-17")
    assert "There are 40;" in error
    assert "Did you mean 'experiment-17'" in error
    assert error.count("experiment-") <= 6
    assert "There are 40, none of them close." in refused("--resume", "--name", "zzz")


PROGRAM = """
import sys
from pyro_dwp.cli import begin_run, run_script


def main(lines: int = 100000) -> None:
    \"\"\"Print.

    Args:
        lines: to print.
    \"\"\"
    begin_run("chatter", "mine")
    for number in range(lines):
        print("line", number)


sys.exit(run_script(main))
"""


@pytest.mark.parametrize("arguments", ["--help", "", "--lines 1"])
def test_a_reader_of_the_output_that_leaves_is_no_error(tmp_path: Path, arguments: str) -> None:
    (tmp_path / "chatter.py").write_text(PROGRAM)
    command = f"{sys.executable} chatter.py {arguments}"
    shell = f"set -o pipefail; {command} | true"  # the status is that of the script
    buffered = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    done = subprocess.run(["bash", "-c", shell], cwd=tmp_path, env=buffered, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.returncode == 141
    assert not (tmp_path / "runs").exists()


def test_a_pipe_that_breaks_elsewhere_keeps_its_traceback(
    call: Callable, sample: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise BrokenPipeError("of a worker")

    monkeypatch.setattr(sample, "fit", broken)
    with pytest.raises(BrokenPipeError, match="of a worker"):
        call()
