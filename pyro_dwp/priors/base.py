"""What every prior is: a rule that gives each weight site a distribution over one kernel.

To write a prior, subclass `PriorFamily` and return, for a site, a Pyro distribution whose event is one kernel. The
model expands it over the channels. Hang constants on buffers, so that they move with the module.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import Any

import pyro
import torch
from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import nn

from pyro_dwp.errors import ConfigError, PyroDwpError
from pyro_dwp.sites import WeightSite, has_voxels


class PriorFamily(nn.Module, ABC):
    """A rule from weight sites to distributions over one kernel."""

    @abstractmethod
    def distribution(self, site: WeightSite) -> TorchDistribution:
        """Return the prior of one kernel at this site: batch shape (), event shape `site.kernel_shape`.

        A prior that differs from kernel to kernel of a site has batch shape `site.batch_shape`.

        Args:
            site: the site; its name, group, channels and kernel shape may all matter.
        """

    def encoders(self) -> dict[str, nn.Module]:
        """Return, for each group with an implicit prior, a new auxiliary encoder r(z|w) to start inference from.

        A prior with a density needs none, so the default is empty.
        """
        return {}

    def exposes(self, site: WeightSite) -> bool:
        """Tell whether this parameter of a network is to be a random variable; what is not stays a point parameter."""
        return has_voxels(site)

    def check(self, parameters: Collection[WeightSite]) -> None:
        """Refuse a network that this prior does not fit, before inference.

        Args:
            parameters: all of the network, whether this prior exposes them or not.

        Raises:
            ConfigError: if the prior of an exposed parameter does not fit it, is discrete, or has arguments that make no
                distribution, such as a negative scale.
        """
        for site in filter(self.exposes, parameters):
            self._check_values(site)

    def site_distribution(self, site: WeightSite) -> TorchDistribution:
        """Return the prior of a whole site: batch shape (), event shape `site.shape`.

        Raises:
            ConfigError: if `distribution` returned no Pyro distribution, or a prior for kernels of another shape.
        """
        if "_modules" not in self.__dict__:
            raise ConfigError(
                f"{_name(self)} is not set up as a module. Begin its constructor with super().__init__()."
            )
        prior: Any = self.distribution(site)
        if not isinstance(prior, TorchDistributionMixin):
            raise ConfigError(f"{_name(self)}.distribution({_of(site)}) {_misfit(prior)}")
        fits = prior.batch_shape in (torch.Size(), site.batch_shape)
        if not fits or prior.event_shape != site.kernel_shape:
            raise ConfigError(
                f"The prior of {_of(site)} must be over one kernel of shape {tuple(site.kernel_shape)}, but {_name(self)} gave "
                f"batch shape {tuple(prior.batch_shape)} and event shape {tuple(prior.event_shape)}. Fit or choose a prior for "
                "kernels of this shape."
            )
        expanded: TorchDistribution = prior.expand(site.batch_shape).to_event(len(site.batch_shape))
        return expanded

    def _check_values(self, site: WeightSite) -> None:
        """Refuse a prior of a site that has arguments no distribution can have, or no real support."""
        try:
            with pyro.validation_enabled():  # scripts turn it off, and would sample from N(0, -1)
                prior = self.site_distribution(site)
        except PyroDwpError:
            raise
        except ValueError as problem:
            said = str(problem).partition("\n")[0].rstrip(":. ")  # below it torch lists every value
            raise ConfigError(
                f"{_name(self)}.distribution({_of(site)}) cannot be built: {said}. Check the arguments of the distribution: a "
                "scale is positive, and every argument a finite number."
            ) from problem
        try:
            discrete = prior.support.is_discrete
        except NotImplementedError:
            return  # it does not tell
        if discrete:
            raise ConfigError(
                f"{_name(self)}.distribution({_of(site)}) is discrete, but a weight is a real number. Return a distribution "
                "over real kernels, such as pyro.distributions.Normal or Laplace."
            )


def _name(prior: PriorFamily) -> str:
    return type(prior).__name__


def _of(site: WeightSite) -> str:
    return f"site {site.name!r} (group {site.group!r})"


def _misfit(found: Any) -> str:
    """Say what is wrong with something that is no Pyro distribution, and the cure."""
    if found is None:
        return "returned nothing. Is a return missing?"
    if isinstance(found, torch.distributions.Distribution):
        return (
            f"returned torch's {type(found).__name__}, which is no Pyro distribution. Take the class of the same name from "
            "pyro.distributions, and .to_event(n) in place of Independent."
        )
    return (
        f"must return a Pyro distribution over one kernel, but returned a {type(found).__name__}. Return one of "
        "pyro.distributions, such as Normal(zeros, scale).to_event(n), n the number of axes of a kernel."
    )
