"""Checkpoints: bit-exact round trips, named differences, and no half-written state."""

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from pyro_dwp.errors import CheckpointError
from pyro_dwp.train.checkpoint import FILE, load, load_module, peek, save


def trained(optimiser: type[torch.optim.Optimizer] = torch.optim.Adam, width: int = 3) -> tuple:
    network = nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width))
    adam = optimiser([{"params": network[0].parameters(), "lr": 0.1}, {"params": network[1].parameters()}], lr=0.2)
    for _ in range(3):
        network(torch.randn(4, 2)).square().sum().backward()
        adam.step()
    return network, adam


@pytest.mark.parametrize("optimiser", [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD])
def test_modules_and_optimiser_come_back_bit_for_bit(tmp_path: Path, optimiser: type[torch.optim.Optimizer]) -> None:
    network, adam = trained(optimiser)
    save(tmp_path, {"network": network}, adam, {"epoch": 3})
    other, other_adam = trained(optimiser)
    other_adam.param_groups[0]["lr"] = 7.0
    assert load(tmp_path, {"network": other}, other_adam) == {"epoch": 3}
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in network.state_dict().items())
    ours, theirs = adam.state_dict(), other_adam.state_dict()
    assert ours["param_groups"] == theirs["param_groups"]
    assert ours["state"].keys() == theirs["state"].keys()
    for index, state in ours["state"].items():
        assert state.keys() == theirs["state"][index].keys()
        for key, value in state.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(theirs["state"][index][key]))


def test_random_numbers_go_on_where_they_were(tmp_path: Path) -> None:
    network, adam = trained()
    save(tmp_path, {"network": network}, adam, {})
    expected = torch.randn(5)
    load(tmp_path, {"network": network}, adam)
    assert torch.equal(torch.randn(5), expected)


def test_floats_of_the_state_survive_exactly(tmp_path: Path) -> None:
    network, adam = trained()
    state = {"best": float("inf"), "values": [0.1, 1 / 3, 1e-300]}
    save(tmp_path, {"network": network}, adam, state)
    assert peek(tmp_path) == state


def test_modules_may_share_a_parameter(tmp_path: Path) -> None:
    network, adam = trained()
    save(tmp_path, {"network": network, "first": network[0]}, adam, {})
    assert load(tmp_path, {"network": network, "first": network[0]}, adam) == {}


def test_a_network_of_another_shape_is_named_with_both_shapes_and_the_file(tmp_path: Path) -> None:
    network, adam = trained()
    save(tmp_path, {"network": network}, adam, {})
    wide, wide_adam = trained(width=5)
    before = {key: value.clone() for key, value in wide.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"last\.safetensors.*'0\.weight'.*\(5, 2\).*\(3, 2\).*config\.yaml"):
        load(tmp_path, {"network": wide}, wide_adam)
    assert all(torch.equal(value, before[key]) for key, value in wide.state_dict().items())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1)), r"'2\.weight'.*the file lacks"),
        (lambda: nn.Sequential(nn.Linear(2, 3)), r"the file holds '1\..*network does not have"),
    ],
)
def test_a_missing_or_surplus_parameter_is_named(tmp_path: Path, build, message: str) -> None:
    network, adam = trained()
    save(tmp_path, {"network": network}, adam, {})
    with pytest.raises(CheckpointError, match=message):
        load_module(tmp_path, "network", build())


def test_an_optimiser_with_other_groups_is_refused(tmp_path: Path) -> None:
    network, adam = trained()
    save(tmp_path, {"network": network}, adam, {})
    with pytest.raises(CheckpointError, match=r"\[4\] parameters per group here and \[2, 2\]"):
        load(tmp_path, {"network": network}, torch.optim.Adam(network.parameters()))


def test_one_module_can_be_read_alone(tmp_path: Path) -> None:
    network, adam = trained()
    save(tmp_path, {"network": network, "first": network[0]}, adam, {})
    assert torch.equal(load_module(tmp_path, "first", nn.Linear(2, 3)).weight, network[0].weight)


def test_a_module_that_was_not_kept_lists_those_that_were(tmp_path: Path) -> None:
    network, adam = trained()
    save(tmp_path, {"network": network}, adam, {})
    with pytest.raises(CheckpointError, match="Did you mean 'network'"):
        load_module(tmp_path, "netwrok", network)


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    network, adam = trained()
    assert peek(tmp_path) is None
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load(tmp_path, {"network": network}, adam)


@pytest.mark.parametrize("keep", [0, 4, 200, 3000])
def test_a_truncated_checkpoint_is_one_error(tmp_path: Path, keep: int) -> None:
    network, adam = trained()
    file = save(tmp_path, {"network": network}, adam, {})
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(tmp_path, {"network": network}, adam)


def test_a_file_of_another_program_is_one_error(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    (tmp_path / FILE).parent.mkdir()
    save_file({"weight": torch.zeros(2)}, tmp_path / FILE)
    with pytest.raises(CheckpointError, match="cannot be read"):
        peek(tmp_path)


def test_a_write_that_was_cut_short_leaves_the_former_state_and_does_not_hinder_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, adam = trained()
    save(tmp_path, {"network": network}, adam, {"epoch": 1})

    def killed(*paths: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path, {"network": network}, adam, {"epoch": 2})
    leftover = (tmp_path / FILE).with_name(FILE.name + ".tmp")
    leftover.write_bytes(leftover.read_bytes()[:100])
    assert load(tmp_path, {"network": network}, adam) == {"epoch": 1}
    save(tmp_path, {"network": network}, adam, {"epoch": 3})
    assert load(tmp_path, {"network": network}, adam) == {"epoch": 3}
    assert [path.name for path in (tmp_path / FILE).parent.iterdir()] == [FILE.name]


def test_memory_layout_is_the_receivers(tmp_path: Path) -> None:
    layer = nn.Conv2d(4, 4, 3).to(memory_format=torch.channels_last)
    adam = torch.optim.Adam(layer.parameters())
    layer(torch.randn(1, 4, 5, 5)).sum().backward()
    adam.step()
    save(tmp_path, {"layer": layer}, adam, {})
    load(tmp_path, {"layer": layer}, adam)
    average = adam.state[layer.weight]["exp_avg"]
    assert layer.weight.is_contiguous(memory_format=torch.channels_last)
    assert average.is_contiguous(memory_format=torch.channels_last)
