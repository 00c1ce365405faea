"""Where inference starts: from a random network, from a source network, or from draws of the prior."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from pyro_dwp.errors import CheckpointError, ConfigError, suggest
from pyro_dwp.kernels.tensor_file import read_tensor_file, write_tensor_file
from pyro_dwp.priors import PriorFamily
from pyro_dwp.sites import WeightSite

Start = Literal["random", "source", "prior"]


def scale_parameters(network: nn.Module, factor: float) -> nn.Module:
    """Multiply every parameter of a network in place, and return the network.

    Under instance normalisation a smaller start leaves the function of all but the last layer unchanged, while the steps
    of Adam are as large as before: what they write is then not hidden under the initial noise.

    Args:
        network: with any parameters.
        factor: positive.

    Raises:
        ConfigError: if the factor is not positive.
    """
    if factor <= 0:
        raise ConfigError(f"An initial scale must be positive, but received {factor}.")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(factor)
    return network


def save_network(path: Path, network: nn.Module, facts: Mapping[str, Any]) -> None:
    """Write a trained network as one safetensors file, atomically.

    Args:
        path: ends in .safetensors.
        network: whose state_dict is kept.
        facts: JSON-able: how it was trained, how well it does.
    """
    write_tensor_file(path, "network", network.state_dict(), facts)


def load_network(path: Path, network: nn.Module) -> dict[str, Any]:
    """Fill a network with the weights of a file that `save_network` wrote, and return the file's facts.

    Args:
        path: the file.
        network: of the same architecture; filled in place.

    Raises:
        CheckpointError: if the file is missing, damaged, or holds another architecture.
    """
    cure = "Name a file under networks/ in a folder that run/train_source.py made."
    tensors, facts = read_tensor_file(path, "network", CheckpointError, cure)
    for name, wanted in network.state_dict().items():
        if name not in tensors or tensors[name].shape != wanted.shape:
            found = tuple(tensors[name].shape) if name in tensors else "no such weight"
            raise CheckpointError(
                f"{path} does not fit this {type(network).__name__}: {name} should have shape {tuple(wanted.shape)}, the file "
                f"has {found}. Set the network's arguments to those of the source run's config.yaml."
            )
    network.load_state_dict({name: tensors[name] for name in network.state_dict()})
    return facts


def start_weights(
    start: Start, sites: Mapping[str, WeightSite], network: nn.Module, prior: PriorFamily
) -> dict[str, Tensor]:
    """Return the weights that a guide starts from.

    Args:
        start: "random" and "source" take what the network holds (its He initialisation, or weights loaded from a source
            network); "prior" draws each site from the prior.
        sites: site name → site.
        network: the target network.
        prior: the target's prior.

    Returns:
        Site name → weight, detached.

    Raises:
        ConfigError: if `start` is none of the three.
    """
    if start not in get_args(Start):
        raise ConfigError(f"No start is called {start!r}. {suggest(start, get_args(Start))}")
    with torch.no_grad():
        if start == "prior":
            return {name: prior.site_distribution(site).sample() for name, site in sites.items()}
        return {name: network.get_parameter(name).detach().clone() for name in sites}
