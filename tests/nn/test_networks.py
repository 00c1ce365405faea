"""Networks as files: read back as they were written, refused where they do not fit, found in the folder of a source run."""

from pathlib import Path

import pytest
import torch

from pyro_dwp.errors import CheckpointError
from pyro_dwp.files import write_tensors
from pyro_dwp.nn import UNet, load_network, save_network, snapshot_files
from tests.helpers.guides import moved
from tests.helpers.refusal import refuses


def test_a_saved_network_is_read_back_bit_for_bit_with_its_facts(tmp_path: Path) -> None:
    network, other = UNet(channels=(2, 4)), UNet(channels=(2, 4))
    save_network(tmp_path / "a.safetensors", network, {"dice": 0.5})
    assert load_network(tmp_path / "a.safetensors", other) == {"dice": 0.5}
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), other.parameters(), strict=True))


FIRST = "init_conv.weight"
CHANGES = {
    "integers": (lambda state: {name: value.long() for name, value in state.items()}, [FIRST, "integer"]),
    "complex": (lambda state: {name: value.cfloat() for name, value in state.items()}, [FIRST, "complex"]),
    "surplus": (lambda state: state | {"extra": torch.zeros(1)}, ["extra"]),
    "missing": (lambda state: {name: value for name, value in state.items() if "up1" not in name}, ["up1", "absent"]),
    "infinite": (lambda state: state | {FIRST: state[FIRST] / 0}, [FIRST, "not finite"]),
    "shape": (lambda state: state | {FIRST: torch.zeros(3, 1, 3, 3, 3)}, ["(2, 1, 3, 3, 3)", "(3, 1, 3, 3, 3)"]),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_network_that_does_not_fit_or_is_missing_is_refused_and_nothing_filled(kind: str, tmp_path: Path) -> None:
    change, tokens = CHANGES[kind]
    network = UNet(channels=(2, 4))
    path = write_tensors(tmp_path / "a.safetensors", "network", change(UNet(channels=(2, 4)).state_dict()), {})

    def load() -> None:
        with refuses("a.safetensors", *tokens, error=CheckpointError):
            load_network(path, network)
        with refuses("none.safetensors", error=CheckpointError):
            load_network(tmp_path / "none.safetensors", network)

    assert moved([network], load) == [[]]


def test_snapshots_are_found_in_order_and_their_absence_is_named(tmp_path: Path) -> None:
    with refuses("networks", "train_source"):
        snapshot_files(tmp_path)
    (tmp_path / "networks").mkdir()
    with refuses("networks", "--resume"):
        snapshot_files(tmp_path)
    for name in ("b.safetensors", "a.safetensors", "notes.txt"):
        (tmp_path / "networks" / name).touch()
    assert [path.name for path in snapshot_files(tmp_path)] == ["a.safetensors", "b.safetensors"]
