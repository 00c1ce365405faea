"""What every guide is: a distribution over all weight sites that can be sampled with reparametrisation."""

from abc import ABCMeta, abstractmethod
from collections.abc import Mapping
from typing import Any

import pyro
from pyro.distributions import TorchDistribution
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyro_dwp.errors import ConfigError
from pyro_dwp.sites import WeightSite


def site_parameters(values: Mapping[str, Tensor]) -> nn.ParameterDict:
    """Return trainable copies of tensors, one for each site.

    torch forbids dots in the names of parameters, so the keys have slashes instead; read one with `key`.

    Args:
        values: site name → tensor.
    """
    return nn.ParameterDict({key(name): nn.Parameter(value.detach().clone()) for name, value in values.items()})


def key(name: str) -> str:
    """Return the parameter name of a site.

    Example:
        >>> key("up1.conv_1.weight")
        'up1/conv_1/weight'
    """
    return name.replace(".", "/")


class AbstractPyroModule(type(PyroModule), ABCMeta):  # type: ignore[misc]
    """Metaclass of a PyroModule whose abstract methods must be defined."""


class Guide(PyroModule, metaclass=AbstractPyroModule):
    """A variational family whose sites are independent given its parameters.

    A subclass creates its parameters in the constructor and returns a site's distribution. A family that couples sites
    overrides `forward`.

    Args:
        sites: site name → site.
        start: site name → weight to start from, of the site's shape.

    Raises:
        ConfigError: if a site has no start, or one of another shape.
    """

    def __init__(self, sites: Mapping[str, WeightSite], start: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name, site in sites.items():
            if name not in start or start[name].shape != site.shape:
                found = tuple(start[name].shape) if name in start else "none"
                raise ConfigError(
                    f"{type(self).__name__} needs a start of shape {tuple(site.shape)} for site {name!r}, but received {found}."
                )
        self.sites = dict(sites)

    @abstractmethod
    def distribution(self, name: str) -> TorchDistribution:
        """Return q(w) of a site: batch shape (), event shape (O, I, K, ..., K)."""

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Sample every site once; the arguments are the model's and are ignored.

        Returns:
            Site name → weight.
        """
        return {name: pyro.sample(name, self.distribution(name)) for name in self.sites}
