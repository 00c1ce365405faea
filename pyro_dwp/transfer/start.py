"""Where inference starts: from a random network, from a source network, or from draws of the prior."""

from collections.abc import Collection, Mapping
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


class StartWeights(dict[str, Tensor]):
    """Weights that a guide starts from, site name → weight, and the sites whose kernels have a place of their own.

    Elsewhere kernels are drawn alike and independently, so that they might as well have changed places among the channels of
    their site. A guide may make use of it, as `guides.Ensemble` does.

    Args:
        weights: site name → weight.
        placed: names of the sites of a trained network's weights, or of draws around them.
    """

    def __init__(self, weights: Mapping[str, Tensor], placed: Collection[str] = ()) -> None:
        super().__init__(weights)
        self.placed = frozenset(placed)


def start_weights(
    start: Start, sites: Mapping[str, WeightSite], network: nn.Module, prior: PriorFamily
) -> StartWeights:
    """Return the weights that a guide starts from.

    Args:
        start: "random" and "source" take what the network holds (its He initialisation, or weights loaded from a source
            network); "prior" draws each site from the prior.
        sites: site name → site.
        network: the target network.
        prior: the target's prior.

    Returns:
        Site name → weight, detached. Kernels have places of their own if the start is "source", or a draw of a prior that
        differs from kernel to kernel, such as `Pretrained`.

    Raises:
        ConfigError: if `start` is none of the three, or a weight is not finite.
    """
    if start not in get_args(Start):
        raise ConfigError(f"No start is called {start!r}. {suggest(start, get_args(Start))}")
    with torch.no_grad():
        if start == "prior":
            weights = {name: prior.site_distribution(site).sample() for name, site in sites.items()}
        else:
            weights = {name: network.get_parameter(name).detach().clone() for name in sites}
    for name, weight in weights.items():
        if not torch.isfinite(weight).all():
            raise ConfigError(_not_finite(start, sites[name], network, prior))
    placed = (
        [name for name, site in sites.items() if prior.distribution(site).batch_shape] if start == "prior" else sites
    )
    return StartWeights(weights, placed if start != "random" else ())


def _not_finite(start: Start, site: WeightSite, network: nn.Module, prior: PriorFamily) -> str:
    """Say which weights are not finite, and the cure."""
    where = f"site {site.name!r} (group {site.group!r})"
    if start == "prior":
        return (
            f"A draw of the prior {type(prior).__name__} at {where} has weights that are not finite, so inference cannot start "
            "from it. Look at the arguments of its distribution (a scale that is NaN, infinite or negative), or start from "
            "elsewhere (--start random)."
        )
    return (
        f"The {type(network).__name__} to start from has weights that are not finite at {where}. Initialise it otherwise, or "
        "name another source network."
    )
