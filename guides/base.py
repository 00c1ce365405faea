"""What every guide is: a distribution over all weight sites that can be sampled with reparametrisation."""

from abc import ABCMeta, abstractmethod
from collections.abc import Mapping
from typing import Any

import pyro
from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyro_dwp.errors import ConfigError, suggest
from pyro_dwp.sites import WeightSite

RESHAPE = (
    "Give its parameters the shape of the site, or wrap a distribution over vectors: pyro_dwp.distributions.Reshaped(q, "
    "self.sites[name].shape)."
)


class AbstractPyroModule(type(PyroModule), ABCMeta):  # type: ignore[misc]
    """Metaclass of a PyroModule whose abstract methods must be defined."""


class Guide(PyroModule, metaclass=AbstractPyroModule):
    """A variational family whose sites are independent given its parameters.

    A subclass creates its parameters in the constructor with `add_parameter` and returns a site's distribution. A family
    with latent variables of its own overrides `sample`, one that couples sites `forward`.

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

    def add_parameter(self, kind: str, name: str, value: Tensor) -> None:
        """Give a site a trainable parameter that starts as a copy of a tensor.

        torch forbids dots in the names of parameters, so it is called kind:up1/conv_1/weight.

        Args:
            kind: what it is, such as "mean".
            name: of the site.
            value: of any shape.
        """
        self.register_parameter(_key(kind, name), nn.Parameter(value.detach().clone()))

    def parameter(self, kind: str, name: str) -> Tensor:
        """Return a parameter that `add_parameter` made; inside SVI, Pyro takes note of it.

        Raises:
            ConfigError: if there is none of this kind for the site.
        """
        key = _key(kind, name)
        if key not in self._parameters:
            end = _key("", name)
            kinds = [own.removesuffix(end) for own in self._parameters if own.endswith(end)]
            raise ConfigError(
                f"{type(self).__name__} has added no parameter of kind {kind!r} for site {name!r}. {suggest(kind, kinds)} "
                "Add it in the constructor with self.add_parameter(kind, name, value)."
            )
        value: Tensor = getattr(self, key)
        return value

    @abstractmethod
    def distribution(self, name: str) -> TorchDistribution:
        """Return q(w) of a site: batch shape (), event shape that of the site."""

    def sample(self, name: str) -> Tensor:
        """Sample a site with `pyro.sample`.

        Raises:
            ConfigError: if `distribution` gave no Pyro distribution, or another shape than the site's.
        """
        q = self.distribution(name)
        if not isinstance(q, TorchDistributionMixin):
            raise ConfigError(
                f"{type(self).__name__}.distribution({name!r}) must return a Pyro distribution over the weights of the site, but "
                f"returned {q if q is None else type(q).__name__}. Return one of pyro.distributions; those of torch are none."
            )
        if q.batch_shape or q.event_shape != self.sites[name].shape:
            flat = q.batch_shape + q.event_shape != self.sites[name].shape
            raise ConfigError(
                f"{type(self).__name__}.distribution({name!r}) must have batch shape () and event shape "
                f"{tuple(self.sites[name].shape)}, but has {tuple(q.batch_shape)} and {tuple(q.event_shape)}. "
                + (RESHAPE if flat else "End it with .to_event(n), n the number of batch axes.")
            )
        value: Tensor = pyro.sample(name, q)
        return value

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Sample every site once; the arguments are the model's and are ignored.

        Returns:
            Site name → weight.
        """
        return {name: self.sample(name) for name in self.sites}


def _key(kind: str, name: str) -> str:
    return f"{kind}:{name.replace('.', '/')}"
