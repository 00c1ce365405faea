"""Banks: they come back bit for bit, networks never stand on both sides of a split, and bad files are refused."""

from pathlib import Path

import pytest
import torch

from pyro_dwp.errors import ConfigError
from pyro_dwp.files import write_tensors
from pyro_dwp.kernels.bank import KIND, KernelBank, root_mean_square, split_randomly
from tests.helpers.refusal import refuses


def a_bank(networks: int = 3, per_network: int = 10) -> KernelBank:
    generator = torch.Generator().manual_seed(0)
    source = torch.arange(networks).repeat_interleave(per_network)
    kernels = {name: torch.randn(len(source), 3, 3, 3, generator=generator) for name in ("1", "up.2/x")}
    return KernelBank(kernels, dict.fromkeys(kernels, source), {"left_out": {"1": 4, "up.2/x": 0}})


def test_a_saved_bank_comes_back_bit_for_bit(tmp_path: Path) -> None:
    bank = a_bank()
    bank.save(tmp_path / "deep" / "bank.safetensors")
    again = KernelBank.load(tmp_path / "deep" / "bank.safetensors")
    assert (again.metadata, again.groups) == (bank.metadata, bank.groups)
    for name in bank.groups:
        assert torch.equal(again.kernels[name], bank.kernels[name])
        assert torch.equal(again.sources[name], bank.sources[name])


def test_networks_never_stand_on_both_sides_of_a_split_and_are_the_same_in_every_group() -> None:
    bank = a_bank(networks=5)
    marked = KernelBank(
        {g: s[:, None, None, None].expand(-1, 3, 3, 3).float() for g, s in bank.sources.items()}, bank.sources
    )
    fitted, held_out = ({*side.flatten().tolist()} for side in marked.split("1", held_out=0.4, seed=3))
    assert (len(fitted), len(held_out), fitted & held_out) == (3, 2, set())
    assert torch.equal(marked.split("1", seed=5)[1], marked.split("up.2/x", seed=5)[1])


@pytest.mark.parametrize("networks", [1, 5])
def test_a_bank_is_divided_as_its_groups_are_split(networks: int) -> None:
    bank = a_bank(networks=networks)
    parts = bank.divide(0.4, seed=2)
    for side, part in enumerate(parts):
        assert part.metadata == bank.metadata
        for name in bank.groups:
            assert torch.equal(part.group(name), bank.split(name, 0.4, seed=2)[side])
            assert len(part.sources[name]) == len(part.group(name))
    if networks > 1:
        assert sorted(parts[0].networks + parts[1].networks) == list(range(5))
        assert len(parts[1].networks) == 2


def test_a_single_network_is_split_by_kernel_and_by_the_seed_alone() -> None:
    bank = a_bank(networks=1, per_network=50)
    assert [len(side) for side in bank.split("1", held_out=0.2)] == [40, 10]
    assert torch.equal(bank.split("1", seed=1)[0], bank.split("1", seed=1)[0])
    assert not torch.equal(bank.split("1", seed=1)[0], bank.split("1", seed=2)[0])


def test_a_random_split_keeps_every_item_once_and_leaves_something_on_both_sides() -> None:
    rest, share = split_randomly(torch.arange(17), 0.3, seed=4)
    assert sorted([*rest.tolist(), *share.tolist()]) == list(range(17))
    assert len(share) == 5
    assert all(len(side) for share in (0.0, 1.0) for side in split_randomly(torch.arange(3), share, seed=0))
    assert root_mean_square(torch.tensor([[1.0, 7.0], [-1.0, 7.0]])) == 5.0


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan"), "0.2", True])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with refuses("held_out", error=ConfigError):
        a_bank().split("1", share)
    with refuses("held_out", error=ConfigError):
        a_bank().divide(share)
    if share not in (0.0, 1.0) or share is True:
        with refuses("share", error=ConfigError):
            a_bank().split_kernels("1", share)


def test_a_split_with_an_empty_side_and_an_unknown_group_are_refused() -> None:
    with refuses("empty"):
        a_bank(networks=1, per_network=1).split("1")
    with refuses("1, up"):
        a_bank().group("8")


KERNELS, SOURCES = torch.ones(2, 3, 3), torch.zeros(2, dtype=torch.int64)


@pytest.mark.parametrize(
    ("kernels", "sources"),
    [
        ({}, {}),
        ({"1": KERNELS}, {"2": SOURCES}),
        ({"1": KERNELS}, {"1": torch.zeros(3).long()}),
        ({"1": KERNELS[:0]}, {"1": SOURCES[:0]}),
        ({"1": torch.ones(2, 27)}, {"1": SOURCES}),
        ({"1": KERNELS.int()}, {"1": SOURCES}),
        ({"1": KERNELS.to(torch.complex64)}, {"1": SOURCES}),
        ({"1": KERNELS}, {"1": SOURCES.float()}),
        ({"1": torch.nan * KERNELS}, {"1": SOURCES}),
    ],
)
def test_an_inconsistent_bank_is_refused_in_memory_and_as_a_file(tmp_path: Path, kernels: dict, sources: dict) -> None:
    with refuses("kernel bank"):
        KernelBank(kernels, sources)
    tensors = {f"{g}/{part}": x for part, of in (("kernels", kernels), ("sources", sources)) for g, x in of.items()}
    write_tensors(tmp_path / "bank.safetensors", KIND, tensors, {})
    with refuses("bank.safetensors", "collect"):
        KernelBank.load(tmp_path / "bank.safetensors")


@pytest.mark.parametrize(
    "facts",
    [*({key: 3} for key in ("layers", "left_out", "networks")), {"layers": {"1": "a"}}, {"snapshots": "2"}],
    ids=str,
)
def test_facts_of_the_wrong_type_are_refused(tmp_path: Path, facts: dict) -> None:
    write_tensors(tmp_path / "bank.safetensors", KIND, {"1/kernels": KERNELS, "1/sources": SOURCES}, facts)
    with refuses("bank.safetensors", *facts, "collect_kernels"):
        KernelBank.load(tmp_path / "bank.safetensors")


def test_a_missing_bank_and_another_kind_of_file_are_data_errors(tmp_path: Path) -> None:
    write_tensors(tmp_path / "prior.safetensors", "kernel prior", {}, {})
    for name in ("none", "prior"):
        with refuses(f"{name}.safetensors", "collect_kernels"):
            KernelBank.load(tmp_path / f"{name}.safetensors")
