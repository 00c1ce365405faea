"""What every test relies on: fixed seeds, Pyro's store empty, validation on, one thread, the data folder if there is one."""

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyro
import pytest
import torch
from filelock import FileLock

from pyro_dwp.experiments.local import available_cores
from pyro_dwp.runs import run_script
from pyro_dwp.signals import STOPS
from pyro_dwp.train import configure_pyro
from tests.helpers import sample

MOST_WORKERS = 8  # each holds a gigabyte, and reads all tests before it runs its share


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--device", default="cpu", help="device that the tests of networks and inference run on (cpu, cuda)"
    )


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Share folders of tests among the cores; single files are this process's own, as every worker would import torch first."""
    if not any(Path(argument).is_dir() for argument in config.args):
        return 0
    return min(MOST_WORKERS, available_cores())


def pytest_configure(config: pytest.Config) -> None:
    """Hide GPUs, which scripts use where they find one, unless the tests are to run on them."""
    if not config.getoption("--device").startswith("cuda"):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_collection_finish() -> None:
    """Write no more bytecode, so that a test which compares the files of a folder sees no __pycache__."""
    sys.dont_write_bytecode = True


# Tests work on tiny tensors: more threads gain nothing, and wait for each other where other programs run.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["PYRO_DWP_PRECISION"] = "float32"  # where a test asks for none, whatever this machine is best at
torch.set_num_threads(1)

# Whoever starts the tests in the background has Ctrl-C ignored, in this process and in those that it starts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    configure_pyro()
    pyro.set_rng_seed(0)
    handlers = {number: signal.getsignal(number) for name in STOPS if (number := getattr(signal, name, None))}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.config.getoption("--device"))


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """Return a function of (name, fill) that returns a folder of this name, filled once for all workers; not to be changed."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def run(name: str, fill: Callable[[Path], object]) -> Path:
        folder, filled = shared / name, shared / f"{name}.filled"
        with FileLock(shared / f"{name}.lock"):
            if not filled.exists():
                shutil.rmtree(folder, ignore_errors=True)  # half of it, if it could not be filled before
                folder.mkdir()
                fill(folder)
                filled.touch()
        return folder

    return run


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real scans, or skip."""
    folder = os.environ.get("PYRO_DWP_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs real scans: set PYRO_DWP_DATA to the folder that holds hippocampus/ and lgg/")
    return Path(folder).resolve()


Call = Callable[..., int]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Return a function that runs the script with these arguments in an empty folder and returns its exit status."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sample, "CALLS", [])
    return lambda *arguments: run_script(sample.main, "quick", [str(word) for word in arguments])


@pytest.fixture
def received(call: Call) -> Callable[..., dict[str, Any]]:
    """Return a function that runs the script and returns the arguments that `main` received."""

    def run(*arguments: object) -> dict[str, Any]:
        assert call(*arguments) == 0
        return sample.CALLS[-1]

    return run


@pytest.fixture
def refused(call: Call, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return a function that runs the script, which must fail on its input and leave nothing, and returns the error."""

    def run(*arguments: object) -> str:
        capsys.readouterr()
        before = sorted(Path().rglob("*"))
        assert call(*arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert sorted(Path().rglob("*")) == before
        return error

    return run


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A file of the user's own, with classes that work and classes that do not."""
    return Path(shutil.copy(Path(sample.__file__).with_name("own_classes.py"), tmp_path / "mine.py"))
