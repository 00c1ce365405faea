"""The machine that a script is told to use."""

from collections.abc import Iterator

import pytest
import torch

from pyro_dwp.errors import ConfigError
from pyro_dwp.train import use_machine


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_device_that_is_there_is_returned(device: torch.device) -> None:
    assert use_machine(str(device)) == device


def test_threads_are_set_or_left() -> None:
    use_machine("cpu", 2)
    assert torch.get_num_threads() == 2
    use_machine("cpu")
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("device", ["gpu", "", "cuda:99", "hpu", "meta"])
def test_a_device_that_is_unknown_or_absent_is_refused_in_one_line(device: str) -> None:
    with pytest.raises(ConfigError, match=f"^--device {device} cannot be used here .*Use --device cpu") as refusal:
        use_machine(device)
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize("threads", [0, -1])
def test_a_number_of_threads_below_one_is_refused(threads: int) -> None:
    with pytest.raises(ConfigError, match=f"--threads.*{threads}"):
        use_machine("cpu", threads)
