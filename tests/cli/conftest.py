"""Run the sample script in a folder of its own, as its command line would."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pyro_dwp.cli import run_script

QUICK = """
network: {class_path: unet, init_args: {channels: [4, 8]}}
prior: {class_path: gaussian, init_args: {gain: 1e-1}}
schedule: {epochs: 3}
"""


@pytest.fixture
def sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the sample script, with no calls so far and an empty working folder."""
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location("sample_script", Path(__file__).with_name("sample_script.py"))
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "sample_script", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def call(sample: ModuleType, tmp_path: Path) -> Callable[..., int]:
    """Return a function that runs the script with these arguments and returns its exit status."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "quick.yaml").write_text(QUICK)
    (tmp_path / "configs" / "other.yaml").write_text("seed: 7\nprior: gaussian\n")
    return lambda *arguments: run_script(sample.main, tmp_path / "configs" / "quick.yaml", [*map(str, arguments)])


@pytest.fixture
def received(call: Callable[..., int], sample: ModuleType) -> Callable[..., dict[str, Any]]:
    """Return a function that runs the script and returns the arguments that `main` received."""

    def run(*arguments: object) -> dict[str, Any]:
        assert call(*arguments) == 0
        return sample.CALLS[-1]

    return run


@pytest.fixture
def refused(call: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return a function that runs the script, which must fail on its input, and returns the error."""

    def run(*arguments: object) -> str:
        capsys.readouterr()
        assert call(*arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert "Traceback" not in error
        return error

    return run
