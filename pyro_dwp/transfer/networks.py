"""Trained networks as files: one safetensors file each, with JSON facts about its training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from pyro_dwp.errors import ConfigError
from pyro_dwp.files import check_tensors, read_tensors, write_tensors

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


def load_network(path: Path | str | None, network: nn.Module) -> dict[str, Any]:
    """Fill a network with the weights of a file that `save_network` wrote, and return the file's facts.

    Args:
        path: the file; None, a setting that was left out, is refused.
        network: of the same architecture; filled in place, unless the file does not fit.

    Raises:
        ConfigError: if the path is None.
        CheckpointError: if the file is missing, damaged, or holds another architecture or other kinds of number.
    """
    if path is None:
        raise ConfigError("--start source needs --source, a network saved by run/train_source.py.")
    tensors, facts = read_tensors(path, KIND, CURE)
    check_tensors(tensors, network.state_dict(), f"{path} does not fit this {type(network).__name__}", ARCHITECTURE)
    network.load_state_dict(tensors)
    return facts
