"""The machine that a script is told to use."""

from collections.abc import Iterator

import pytest
import torch

from pyro_dwp.errors import ConfigError
from pyro_dwp.train import Machine
from tests.helpers.refusal import refuses


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_device_that_is_there_is_returned_and_described(device: torch.device) -> None:
    machine = Machine(str(device), threads=2)
    assert machine.use() == device
    assert torch.get_num_threads() == machine.describe()["threads"] == 2
    assert machine.peak_memory_mib() > 0
    Machine(str(device)).use()
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("device", ["gpu", "", "cuda:99", "hpu", "meta"])
def test_a_device_that_is_unknown_or_absent_is_refused_in_one_line(device: str) -> None:
    with refuses(f"--device {device} ", "--device cpu", error=ConfigError):
        Machine(device).use()
