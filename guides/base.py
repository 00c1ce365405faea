"""What every guide is: a distribution over all weight sites that can be sampled with reparametrisation."""

from abc import ABCMeta, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import pyro
import torch
from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyro_dwp.errors import ConfigError, suggest
from pyro_dwp.priors import Prior
from pyro_dwp.sites import Start, WeightSite, module_key


class AbstractPyroModule(type(PyroModule), ABCMeta):  # type: ignore[misc]
    """Metaclass of a PyroModule whose abstract methods must be defined."""


class Guide(PyroModule, metaclass=AbstractPyroModule):
    """A variational family whose sites are independent given its parameters.

    A subclass creates its parameters in the constructor with `create`, fills those of a site in `start_site`, and returns the
    site's distribution. A family with latent variables of its own overrides `sample`, one that couples sites `forward`.

    Args:
        sites: site name → site.
    """

    def __init__(self, sites: Mapping[str, WeightSite]) -> None:
        super().__init__()
        self.sites = dict(sites)

    def create(self, kind: str, name: str, shape: Sequence[int]) -> None:
        """Give a site an empty (NaN) trainable parameter.

        Args:
            kind: what it is, such as "mean".
            name: of the site.
            shape: of the parameter.
        """
        self.register_parameter(_key(kind, name), nn.Parameter(torch.full(tuple(shape), torch.nan)))

    def parameter(self, kind: str, name: str) -> Tensor:
        """Return a parameter that `create` made; inside SVI, Pyro registers it.

        Args:
            kind: what it is, such as "mean".
            name: of the site.

        Raises:
            ConfigError: if the site has none of this kind.
        """
        key = _key(kind, name)
        if key not in self._parameters:
            end = _key("", name)
            kinds = [own.removesuffix(end) for own in self._parameters if own.endswith(end)]
            raise ConfigError(
                f"{type(self).__name__} has created no parameter {kind!r} for site {name!r}. {suggest(kind, kinds)} Create it in "
                "the constructor: self.create(kind, name, shape)."
            )
        value: Tensor = getattr(self, key)
        return value

    @torch.no_grad()
    def fill(self, kind: str, name: str, value: Tensor) -> None:
        """Copy a value into a parameter.

        Args:
            kind: what it is, such as "mean".
            name: of the site.
            value: of the parameter's shape, or one that broadcasts to it.
        """
        self.parameter(kind, name).copy_(value)

    def start(self, draw: Start, prior: Prior) -> None:
        """Fill the guide so that it is narrow around start weights, whose dtype and device it takes.

        Args:
            draw: returns start weights, site name → weight; called once.
            prior: of the model; most guides do not need it.

        Raises:
            ConfigError: if a weight is missing, of another shape or not finite, or a parameter of the guide stays empty.
        """
        weights = self.checked_start(draw())
        self.to(next(iter(weights.values())))
        for name, weight in weights.items():
            self.start_site(name, weight)
        if empty := [key for key, value in self._parameters.items() if value is not None and value.isnan().any()]:
            raise ConfigError(
                f"{type(self).__name__}.start_site leaves the parameter {empty[0]} without values. Give it some: "
                "self.fill(kind, name, value)."
            )

    def checked_start(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the start weights of the guide's sites, detached.

        Raises:
            ConfigError: if one is missing, of another shape or not finite.
        """
        for name, site in self.sites.items():
            found = tuple(weights[name].shape) if name in weights else "none"
            if found != tuple(site.shape):
                raise ConfigError(
                    f"{type(self).__name__} needs a start of shape {tuple(site.shape)} for site {name!r}, but received {found}."
                )
            if not weights[name].isfinite().all():
                raise ConfigError(
                    f"{type(self).__name__} cannot start from weights that are not finite, as those of site {name!r} (group "
                    f"{site.group!r}) are. Check the scales of the prior that they were drawn from (--prior), or the network."
                )
        return {name: weights[name].detach() for name in self.sites}

    def start_site(self, name: str, weight: Tensor) -> None:
        """Fill the parameters of a site; a guide that overrides `start` does not need it.

        Args:
            name: of the site.
            weight: to start from, of the site's shape.
        """
        raise ConfigError(
            f"{type(self).__name__} does not say how it starts. Define start_site(self, name, weight), which fills every "
            "parameter of a site: self.fill(kind, name, value)."
        )

    def initial_scale(self, name: str, weight: Tensor, relative_scale: float) -> Tensor:
        """Return the standard deviation that a site's weights start with: relative_scale · rms(weight), of shape ().

        Args:
            name: of the site.
            weight: that the site starts from.
            relative_scale: fraction of its root mean square.

        Raises:
            ConfigError: if the weight is all 0.
        """
        if not weight.any():
            raise ConfigError(
                f"{type(self).__name__} scales site {name!r} by the size of its start weights, but they are all 0, as the biases "
                "of a new network often are. Start from a draw of the prior (--start prior), or keep such sites as "
                "point parameters with a first rule of --prior assigned: {name: '*.bias', prior: null}."
            )
        return relative_scale * weight.square().mean().sqrt()

    @abstractmethod
    def distribution(self, name: str) -> TorchDistribution:
        """Return q(w) of a site: batch shape (), event shape that of the site."""

    def sample(self, name: str) -> Tensor:
        """Sample a site with `pyro.sample`.

        Raises:
            ConfigError: if `distribution` did not return a Pyro distribution over the site.
        """
        q, shape = self.distribution(name), self.sites[name].shape
        if not isinstance(q, TorchDistributionMixin):
            raise ConfigError(
                f"{type(self).__name__}.distribution({name!r}) must return one of pyro.distributions, but returned "
                f"{q if q is None else f'{type(q).__module__}.{type(q).__name__}'}."
            )
        if q.batch_shape or q.event_shape != shape:
            cure = "End it with .to_event(n), where n is the number of batch axes."
            if q.batch_shape + q.event_shape != shape:
                cure = "Wrap a distribution over vectors: pyro_dwp.distributions.Reshaped(q, self.sites[name].shape)."
            raise ConfigError(
                f"{type(self).__name__}.distribution({name!r}) must have batch shape () and event shape {tuple(shape)}, but has "
                f"{tuple(q.batch_shape)} and {tuple(q.event_shape)}. {cure}"
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
    return f"{kind}:{module_key(name)}"
