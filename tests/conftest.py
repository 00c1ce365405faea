"""What every test relies on: fixed seeds, Pyro's store empty, validation on, one thread, the data folder if there is one."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pyro
import pytest
import torch

from pyro_dwp.train.settings import configure_pyro


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--device", default="cpu", help="device that the tests of networks and inference run on (cpu, cuda)"
    )


# Tests work on tiny tensors: more threads gain nothing, and wait for each other where other programs run.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)

# Whoever starts the tests in the background has Ctrl-C ignored, in this process and in those that it starts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    configure_pyro()
    pyro.set_rng_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.config.getoption("--device"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real scans, or skip."""
    folder = os.environ.get("PYRO_DWP_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs real scans: set PYRO_DWP_DATA to the folder that holds hippocampus/ and lgg/")
    return Path(folder).resolve()
