"""Where inference starts: from a random network, from a source network, or from draws of the prior."""

from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn

from pyro_dwp.checks import checked
from pyro_dwp.priors import Prior
from pyro_dwp.sites import Start, WeightSite

StartKind = Literal["random", "source", "prior"]


@checked
def scale_parameters(network: nn.Module, factor: PositiveFloat) -> nn.Module:
    """Multiply every parameter of a network in place, and return the network.

    Under instance normalisation a smaller start leaves the function of all but the last layer unchanged, while the steps of
    Adam are as large as before, so that they soon outweigh the initial noise.

    Args:
        network: any module.
        factor: dimensionless.

    Raises:
        ConfigError: if the factor is not positive.
    """
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(factor)
    return network


@checked
def start_function(
    kind: StartKind,
    sites: Mapping[str, WeightSite],
    network: nn.Module,
    prior: Prior,
    make_network: Callable[[], nn.Module] | None = None,
) -> Start:
    """Return a function that a guide calls for its start weights; an ensemble calls it once for each member.

    Args:
        kind: "prior" draws every site from the prior at each call; "source" takes the network's weights at each call; "random"
            takes the network's weights at the first call and those of a new network at every later one.
        sites: site name → site.
        network: the target network, initialised at random or loaded from a source network.
        prior: of the model.
        make_network: returns a new network, for "random"; None takes the same network at every call.

    Returns:
        () → start weights, site name → weight, detached.

    Raises:
        ConfigError: if the kind is unknown.

    Example:
        >>> from pyro_dwp.nn import UNet
        >>> from pyro_dwp.priors import Gaussian
        >>> from pyro_dwp.sites import weight_sites
        >>> network = UNet(channels=(2, 4))
        >>> draw = start_function("prior", weight_sites(network), network, Gaussian())
        >>> draw()["init_conv.weight"].shape
        torch.Size([2, 1, 3, 3, 3])
    """

    def networks() -> Iterator[nn.Module]:
        yield network
        while True:
            yield make_network() if kind == "random" and make_network else network

    series = networks()

    @torch.no_grad()
    def draw() -> dict[str, Tensor]:
        if kind == "prior":
            return prior.sample(sites)
        current = next(series)
        return {name: current.get_parameter(name).detach().clone() for name in sites}

    return draw
