"""Trained networks as files: one safetensors file each, with JSON facts about its training; and those of a source run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pyro_dwp.errors import DataError
from pyro_dwp.files import check_finite, check_tensors, read_tensors, write_tensors

KIND = "network"
CURE = "Name a file under networks/ in a folder that run/train_source.py made."
ARCHITECTURE = "Set the network's arguments to those of the source run's config.yaml."


def save_network(path: Path | str, network: nn.Module, facts: Mapping[str, Any]) -> None:
    """Write a trained network as one safetensors file, atomically.

    Args:
        path: ends in .safetensors.
        network: its state_dict is kept.
        facts: JSON-able: how it was trained, how well it does.
    """
    write_tensors(path, KIND, network.state_dict(), facts)


def read_network(path: Path | str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the state_dict of a network that `save_network` wrote, on the CPU, and the file's facts.

    Raises:
        CheckpointError: if the file is missing, damaged, not a network, or holds values that are not finite.
    """
    tensors, facts = read_tensors(path, KIND, CURE)
    check_finite(tensors, str(path), CURE)
    return tensors, facts


def load_network(path: Path | str, network: nn.Module) -> dict[str, Any]:
    """Fill a network with the weights of a file that `save_network` wrote, and return the file's facts.

    Args:
        path: the file.
        network: of the same architecture; filled in place, unless the file does not fit.

    Raises:
        CheckpointError: as `read_network` does, or if the file holds another architecture or other kinds of number.
    """
    tensors, facts = read_network(path)
    check_tensors(tensors, network.state_dict(), f"{path} does not fit this {type(network).__name__}", ARCHITECTURE)
    network.load_state_dict(tensors)
    return facts


def snapshot_files(source: Path | str) -> list[Path]:
    """Return the network files of a source run, sorted.

    Args:
        source: a folder that run/train_source.py made, with networks/*.safetensors in it.

    Raises:
        DataError: if the folder does not exist or holds no network.
    """
    folder = Path(source) / "networks"
    if not folder.is_dir():
        raise DataError(
            f"A source run has a folder networks/, but {folder} does not exist. Run run/train_source.py first."
        )
    if not (files := sorted(folder.glob("*.safetensors"))):
        raise DataError(
            f"{folder} holds no network (*.safetensors): none of this run has converged yet. Let "
            "run/train_source.py finish, with --resume if it was stopped."
        )
    return files
