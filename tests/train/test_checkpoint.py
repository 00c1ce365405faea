"""Checkpoints: bit-exact round trips, extra states, named differences, and no half-written state."""

import copy
import os
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from torch import nn

from pyro_dwp.errors import CheckpointError
from pyro_dwp.files import read_tensors, write_tensors
from pyro_dwp.train.checkpoint import FILE, KIND, load, load_module, peek, save
from tests.helpers.refusal import refuses

Trained = tuple[nn.Sequential, torch.optim.Optimizer]


def trained(optimiser: type[torch.optim.Optimizer] = torch.optim.Adam, width: int = 3) -> Trained:
    network = nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width))
    adam = optimiser([{"params": network[0].parameters(), "lr": 0.1}, {"params": network[1].parameters()}], lr=0.2)
    for _ in range(3):
        network(torch.randn(4, 2)).square().sum().backward()
        adam.step()
    return network, adam


@pytest.fixture
def kept(tmp_path: Path) -> Trained:
    network, adam = trained()
    save(tmp_path, {"network": network, "first": network[0]}, adam, {"epoch": 3})  # modules may share a parameter
    return network, adam


def edit(folder: Path, change: Callable[[dict, dict], object]) -> None:
    tensors, header = read_tensors(folder / FILE, KIND, "")
    change(tensors, header)
    write_tensors(folder / FILE, KIND, tensors, header)


@pytest.mark.parametrize("optimiser", [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD])
def test_modules_optimiser_state_and_random_numbers_come_back_bit_for_bit(tmp_path: Path, optimiser: type) -> None:
    (network, adam), (other, other_adam) = trained(optimiser), trained(optimiser)
    other_adam.param_groups[0]["lr"] = 7.0
    state = {"epoch": 3, "best": float("inf"), "values": [0.1, 1 / 3, 1e-300]}
    save(tmp_path, {"network": network}, adam, state)
    expected = torch.randn(5)
    assert load(tmp_path, {"network": other}, other_adam) == peek(tmp_path) == state
    assert torch.equal(torch.randn(5), expected)
    torch.testing.assert_close(other.state_dict(), network.state_dict(), rtol=0, atol=0)
    assert other_adam.state_dict()["param_groups"] == adam.state_dict()["param_groups"]
    torch.testing.assert_close(other_adam.state_dict()["state"], adam.state_dict()["state"], rtol=0, atol=0)


def test_one_module_can_be_read_alone(tmp_path: Path, kept: Trained) -> None:
    assert torch.equal(load_module(tmp_path, "first", nn.Linear(2, 3)).weight, kept[0][0].weight)
    with refuses("'network'", error=CheckpointError):
        load_module(tmp_path, "netwrok", kept[0])
    assert load_module(tmp_path, "nothing", nn.ReLU())  # what has no state leaves no trace


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


class Growing(nn.Module):
    """Has parameters only once it knows their number, which is its extra state."""

    def get_extra_state(self) -> dict:
        return {"width": len(self.weight)}

    def set_extra_state(self, state: dict) -> None:
        self.weight = nn.Parameter(torch.randn(state["width"]))


def grown() -> Growing:
    module = Growing()
    module.set_extra_state({"width": 5})
    return module


def keep(folder: Path, module: nn.Module) -> None:
    save(folder, {"guide": module}, torch.optim.SGD(module.parameters(), lr=1.0), {})


@pytest.mark.parametrize("wrap", [lambda module: module, lambda module: nn.ModuleDict({"a": nn.ModuleList([module])})])
def test_an_extra_state_is_set_before_tensors_are_compared(tmp_path: Path, wrap: Callable) -> None:
    full, other, empty = wrap(grown()), wrap(grown()), wrap(Growing())
    keep(tmp_path, full)
    load_module(tmp_path, "guide", empty)
    load(tmp_path, {"guide": other}, torch.optim.SGD(other.parameters(), lr=1.0))
    for module in (empty, other):
        assert torch.equal(next(module.parameters()), next(full.parameters()))


@pytest.mark.parametrize("value", [None, 3, {"wide": 5}, {"width": "five"}, {"width": -1}, "absent", "surplus"])
def test_an_extra_state_that_does_not_fit_or_has_no_counterpart_is_refused(tmp_path: Path, value: object) -> None:
    keep(tmp_path, nn.Linear(1, 1) if value == "absent" else grown())
    if value not in ("absent", "surplus"):
        edit(tmp_path, lambda _, header: header["extras"].update({"guide/_extra_state": value}))
    with refuses("last.safetensors", "'guide'", "_extra_state", error=CheckpointError):
        load_module(tmp_path, "guide", nn.Linear(1, 1) if value == "surplus" else grown())


SHAPES = [[[3, 2], [3]], [[3], [3]]]


@pytest.mark.parametrize(
    ("build", "tokens"),
    [
        (lambda: trained(width=5)[0], ("'0.weight'", "(5, 2)", "(3, 2)")),
        (lambda: nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1)), ("'2.weight'", "absent")),
        (lambda: nn.Sequential(nn.Linear(2, 3)), ("'1.", "absent")),
    ],
)
@pytest.mark.parametrize("alone", [True, False])
def test_a_module_that_differs_is_named_and_stays_as_it_was(tmp_path, kept, build, tokens, alone):
    other = build()
    before = copy.deepcopy(other.state_dict())
    with refuses("last.safetensors", "'network'", *tokens, "config.yaml", error=CheckpointError):
        if alone:
            load_module(tmp_path, "network", other)
        else:
            load(tmp_path, {"network": other}, torch.optim.Adam(other.parameters()))
    torch.testing.assert_close(other.state_dict(), before, rtol=0, atol=0)


def test_an_optimiser_with_other_groups_and_a_missing_checkpoint_are_refused(tmp_path: Path, kept: Trained) -> None:
    with refuses("[4] parameters", "[2, 2]", error=CheckpointError):
        load(tmp_path, {"network": kept[0]}, torch.optim.Adam(kept[0].parameters()))
    assert peek(tmp_path / "none") is None
    with refuses("last.safetensors", error=CheckpointError):
        load(tmp_path / "none", {"network": kept[0]}, kept[1])


HEADERS = [
    *((key, value) for key in ("format", "optimiser", "extras", "state") for value in (None, "x", [1], 10**9)),
    *(
        ("optimiser", [{"settings": {}, "shapes": shapes, "scalars": [{}, {}], **wrong} for shapes in SHAPES])
        for wrong in ({"scalars": None}, {"scalars": [{}]}, {"shapes": [["3"]]}, {"settings": {"lr": "a"}})
    ),
]
TENSORS = [
    ("optimiser/0/0/exp_avg", torch.zeros(7)),
    ("optimiser/0/0/exp_avg", torch.zeros(3, 2, dtype=torch.complex64)),
    ("optimiser/1/0/step", torch.zeros((), dtype=torch.int64)),
    ("random/cpu", torch.zeros(3)),
    ("random/cpu", torch.zeros(3, dtype=torch.uint8)),
    ("modules/network/0.weight", torch.zeros(3, 2, dtype=torch.int64)),
]


@pytest.mark.parametrize(("key", "value"), [*HEADERS, *TENSORS, *(("length", x) for x in (0, 4, 200, 3000))], ids=str)
def test_a_checkpoint_cut_short_or_with_values_of_another_type_is_refused(tmp_path, kept, key, value):
    if key == "length":
        (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:value])
    else:
        edit(tmp_path, lambda tensors, header: (tensors if "/" in key else header).update({key: value}))
    with pytest.raises(CheckpointError, match=r"last\.safetensors.*(--overwrite|config\.yaml)"):
        load(tmp_path, {"network": kept[0]}, kept[1])


def test_a_write_that_was_cut_short_leaves_the_former_state(tmp_path, kept, monkeypatch):
    network, adam = kept
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path, {"network": network}, adam, {"epoch": 4})
    assert load(tmp_path, {"network": network, "first": network[0]}, adam) == {"epoch": 3}
    save(tmp_path, {"network": network}, adam, {"epoch": 5})
    assert load(tmp_path, {"network": network}, adam) == {"epoch": 5}
    assert [path.name for path in (tmp_path / FILE).parent.iterdir()] == [FILE.name]
