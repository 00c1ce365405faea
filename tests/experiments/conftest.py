"""A folder of scripts that pretend to work, and run/experiment.py among them."""

import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pyro_dwp.experiments import Experiment, Plan
from pyro_dwp.settings import instantiate
from tests.helpers import stand_in

RUN = Path(__file__).parents[2] / "run"
SMALL: dict[str, Any] = {
    "target": "nothing",
    "name": "small",
    "methods": {"a": {"kind": "a"}, "b": {"kind": "b"}},
    "reference": "a",
    "sizes": [2],
    "splits": 1,
}


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of three scripts that pretend to work, and experiment.py; the working folder is another, and empty."""
    folder = tmp_path / "run"
    (folder / "configs" / "methods").mkdir(parents=True)
    (folder / "configs" / "nothing.yaml").write_text("{}")
    for script in ("svi_target", "train_source", "score"):
        shutil.copy(stand_in.__file__, folder / f"{script}.py")
    shutil.copy(RUN / "experiment.py", folder)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return folder


@pytest.fixture
def plan(scripts: Path) -> Callable[..., Plan]:
    """Return a function of settings, in which those of SMALL change, that plans an experiment."""

    def make(**changed: Any) -> Plan:
        return instantiate(Experiment, SMALL | changed, "").plan(scripts)

    return make


@pytest.fixture
def begin(scripts: Path) -> Callable[..., subprocess.Popen[str]]:
    """Return a function of settings, see `plan`, that starts experiment.py in a process."""

    def start(*flags: str, **changed: Any) -> subprocess.Popen[str]:
        Path("experiment.yaml").write_text(yaml.safe_dump(SMALL | changed))
        command = [sys.executable, str(scripts / "experiment.py"), "--config", "experiment.yaml", *flags]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


def notes() -> list[list[str]]:
    """Return what the scripts noted: event, job, process."""
    path = Path("notes.txt")
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def count(event: str) -> Counter[str]:
    """Return how often an event happened to each job."""
    return Counter(job for what, job, _ in notes() if what == event)


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait until a condition holds."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.02)
