import pytest
import torch
from safetensors.torch import save_file

from pyro_dwp.errors import DataError
from pyro_dwp.kernels.bank import KernelBank, root_mean_square, split_randomly


def a_bank(networks: int = 3, per_network: int = 10) -> KernelBank:
    generator = torch.Generator().manual_seed(0)
    source = torch.arange(networks).repeat_interleave(per_network)
    kernels = {name: torch.randn(len(source), 3, 3, 3, generator=generator) for name in ("1", "2")}
    return KernelBank(kernels, dict.fromkeys(kernels, source), {"left_out": {"1": 4, "2": 0}})


def test_a_saved_bank_comes_back_bit_for_bit(tmp_path):
    bank = a_bank()
    bank.save(tmp_path / "deep" / "bank.safetensors")
    again = KernelBank.load(tmp_path / "deep" / "bank.safetensors")
    assert again.metadata == bank.metadata
    assert again.groups == bank.groups
    for name in bank.groups:
        assert torch.equal(again.kernels[name], bank.kernels[name])
        assert torch.equal(again.sources[name], bank.sources[name])


def test_saving_leaves_nothing_but_the_file(tmp_path):
    a_bank().save(tmp_path / "bank.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["bank.safetensors"]


def test_networks_never_stand_on_both_sides_of_a_split():
    bank = a_bank(networks=5)
    fitted, judged = bank.split("1", held_out=0.4, seed=3)
    sides = [
        {int(bank.sources["1"][(bank.kernels["1"] == k).flatten(1).all(1)][0]) for k in s} for s in (fitted, judged)
    ]
    assert not sides[0] & sides[1]
    assert len(sides[1]) == 2
    assert len(sides[0]) == 3


def test_a_split_holds_out_the_same_networks_in_every_group():
    bank = a_bank(networks=4)
    marked = KernelBank(
        {g: s[:, None, None, None].expand(-1, 3, 3, 3).float() for g, s in bank.sources.items()}, bank.sources
    )
    assert torch.equal(marked.split("1", seed=5)[1], marked.split("2", seed=5)[1])


@pytest.mark.parametrize("networks", [1, 4])
def test_a_bank_is_divided_as_its_groups_are_split(networks):
    bank = a_bank(networks=networks)
    for side, part in enumerate(bank.divide(0.3, seed=2)):
        assert part.metadata == bank.metadata
        for name in bank.groups:
            assert torch.equal(part.group(name), bank.split(name, 0.3, seed=2)[side])
            assert len(part.sources[name]) == len(part.group(name))


def test_the_networks_of_a_bank_and_of_its_held_out_part_are_disjoint():
    fit, judge = a_bank(networks=5).divide(0.4, seed=1)
    assert sorted(fit.networks + judge.networks) == list(range(5))
    assert len(judge.networks) == 2


def test_a_single_network_is_split_by_kernel():
    fitted, judged = a_bank(networks=1, per_network=50).split("1", held_out=0.2)
    assert (len(fitted), len(judged)) == (40, 10)


def test_a_split_depends_on_nothing_but_its_seed():
    bank = a_bank(networks=1)
    assert torch.equal(bank.split("1", seed=1)[0], bank.split("1", seed=1)[0])
    assert not torch.equal(bank.split("1", seed=1)[0], bank.split("1", seed=2)[0])


def test_a_split_with_an_empty_side_is_refused():
    with pytest.raises(DataError, match="empty"):
        a_bank(networks=1, per_network=1).split("1")


def test_a_random_split_keeps_every_item_once():
    rest, share = split_randomly(torch.arange(17), 0.3, seed=4)
    assert sorted([*rest.tolist(), *share.tolist()]) == list(range(17))
    assert len(share) == 5


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_random_split_leaves_something_on_both_sides(share):
    assert all(len(side) for side in split_randomly(torch.arange(3), share, seed=0))


def test_the_root_mean_square_counts_every_entry():
    assert root_mean_square(torch.tensor([[1.0, 7.0], [-1.0, 7.0]])) == 5.0


def test_an_unknown_group_is_answered_with_the_legal_ones():
    with pytest.raises(DataError, match="Legal names are: 1, 2"):
        a_bank().group("8")


def test_kernels_that_are_not_finite_are_refused():
    with pytest.raises(DataError, match=r"group '1'|Group '1'.*not finite"):
        KernelBank({"1": torch.full((2, 3, 3), torch.nan)}, {"1": torch.zeros(2, dtype=torch.long)})


@pytest.mark.parametrize(
    ("kernels", "sources"),
    [
        ({}, {}),
        ({"1": torch.ones(2, 3, 3)}, {"2": torch.zeros(2)}),
        ({"1": torch.ones(2, 3, 3)}, {"1": torch.zeros(3)}),
        ({"1": torch.ones(0, 3, 3)}, {"1": torch.zeros(0)}),
        ({"1": torch.ones(2, 27)}, {"1": torch.zeros(2)}),
    ],
)
def test_an_inconsistent_bank_is_refused(kernels, sources):
    with pytest.raises(DataError, match="kernel bank needs"):
        KernelBank(kernels, sources)


def test_a_missing_bank_names_the_file_and_the_cure(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.safetensors does not exist.*collect_kernels"):
        KernelBank.load(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("keep", [0, 5, 100, -10])
def test_a_truncated_bank_is_one_clear_error(tmp_path, keep):
    path = tmp_path / "bank.safetensors"
    a_bank().save(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"bank\.safetensors cannot be read as a kernel bank"):
        KernelBank.load(path)


def test_another_kind_of_file_is_no_bank(tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(DataError, match="should be a kernel bank"):
        KernelBank.load(tmp_path / "other.safetensors")
