"""The machine that a script is told to use."""

from collections.abc import Iterator

import pytest
import torch

from pyro_dwp.errors import ConfigError
from pyro_dwp.train import Machine, machine
from tests.helpers.refusal import refuses


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_device_that_is_there_is_returned_and_described(device: torch.device) -> None:
    chosen = Machine(str(device), threads=2)
    assert chosen.use() == device
    assert torch.get_num_threads() == chosen.describe()["threads"] == 2
    assert chosen.peak_memory_mib() > 0
    Machine(str(device)).use()
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("device", ["gpu", "", "cuda:99", "hpu", "meta"])
def test_a_device_that_is_unknown_or_absent_is_refused_in_one_line(device: str) -> None:
    with refuses(f"--device {device} ", "--device cpu", error=ConfigError):
        Machine(device).use()


@pytest.mark.parametrize(
    ("there", "asked", "place"), [(True, None, "cuda"), (False, None, "cpu"), (True, "cpu", "cpu")]
)
def test_the_gpu_is_used_where_there_is_one_unless_another_device_is_asked_for(
    monkeypatch, there, asked, place
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert Machine(asked).place == place


def test_what_precision_was_computed_in_is_told() -> None:
    assert Machine("cpu").describe()["precision"] == "float32"
    assert Machine("cpu", precision="bfloat16").describe()["precision"] == "bfloat16"


def test_memory_is_what_is_installed_or_the_limit_of_the_container(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(machine, "CONTAINER_LIMIT", tmp_path / "none")
    installed = Machine("cpu").memory
    assert installed > 2**28
    for text, expected in (("max\n", installed), (f"{2**20}\n", 2**20), (f"{2**60}\n", installed)):
        monkeypatch.setattr(machine, "CONTAINER_LIMIT", tmp_path / "limit")
        (tmp_path / "limit").write_text(text)
        assert Machine("cpu").memory == expected
