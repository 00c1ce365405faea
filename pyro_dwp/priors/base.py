"""What every prior is: a rule that gives each weight site a distribution over one kernel.

To write a prior, subclass `Prior` and return, for a site, a Pyro distribution whose event is one kernel. The model expands it
over the channels. Register constants as buffers, so that they move with the module.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Any

import pyro
import torch
from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor, nn

from pyro_dwp.errors import ConfigError, PyroDwpError
from pyro_dwp.sites import WeightSite, is_spatial_convolution


class Prior(nn.Module, ABC):
    """A rule from weight sites to distributions over one kernel."""

    @abstractmethod
    def distribution(self, site: WeightSite) -> TorchDistribution:
        """Return the prior of one kernel at this site: batch shape (), event shape `site.kernel_shape`.

        A prior that differs from kernel to kernel of a site has batch shape `site.batch_shape`.

        Args:
            site: the site; its name, group, channels and kernel shape may all matter.
        """

    def encoders(self) -> dict[str, nn.Module]:
        """Return, for each `group` of its implicit priors, a new auxiliary encoder r(z|w) to start inference from.

        An encoder takes kernels (N, T) to mean and log standard deviation of z, each (N, L). A prior with a density needs
        none, so the default is empty.
        """
        return {}

    def sample(self, sites: Mapping[str, WeightSite]) -> dict[str, Tensor]:
        """Return a draw of the weights of these sites: site name → weight of the site's shape."""
        with torch.no_grad():
            return {name: self.site_distribution(site).sample() for name, site in sites.items()}

    def exposes(self, site: WeightSite) -> bool:
        """Tell whether this parameter of a network is to be a random variable; otherwise it stays a point parameter."""
        return is_spatial_convolution(site)

    def check(self, parameters: Collection[WeightSite]) -> None:
        """Refuse a network that this prior does not fit, before inference.

        Args:
            parameters: all of the network, whether this prior exposes them or not.

        Raises:
            ConfigError: if the prior of an exposed parameter does not fit it, is discrete, or has invalid arguments, such as a
                negative scale.
        """
        for site in filter(self.exposes, parameters):
            with pyro.validation_enabled():  # scripts turn it off, and would sample from N(0, -1)
                self.checked_distribution(site)

    def site_distribution(self, site: WeightSite) -> TorchDistribution:
        """Return the prior of a whole site: batch shape (), event shape `site.shape`.

        Raises:
            ConfigError: as `checked_distribution` does.
        """
        prior = self.checked_distribution(site)
        expanded: TorchDistribution = prior.expand(site.batch_shape).to_event(len(site.batch_shape))
        return expanded

    def checked_distribution(self, site: WeightSite) -> TorchDistribution:
        """Return `distribution(site)`, checked.

        Raises:
            ConfigError: if it cannot be built, is not a Pyro distribution over one kernel of this site, or is discrete.
        """
        name = type(self).__name__
        if "_modules" not in self.__dict__:
            raise ConfigError(f"{name} is not set up as a module. Begin its constructor with super().__init__().")
        call = f"{name}.distribution(site {site.name!r} (group {site.group!r}))"
        try:
            prior: Any = self.distribution(site)
        except PyroDwpError:
            raise
        except ValueError as problem:
            reason = str(problem).partition("\n")[0].rstrip(":. ")  # torch lists every value below it
            raise ConfigError(
                f"{call} cannot be built: {reason}. Check the arguments of the distribution: a scale is positive, and every "
                "argument a finite number."
            ) from problem
        if not isinstance(prior, TorchDistributionMixin):
            raise ConfigError(f"{call} {_misfit(prior)}")
        if prior.event_shape != site.kernel_shape or prior.batch_shape not in (torch.Size(), site.batch_shape):
            raise ConfigError(
                f"{call} must be over one kernel of shape {tuple(site.kernel_shape)}, but has batch shape "
                f"{tuple(prior.batch_shape)} and event shape {tuple(prior.event_shape)}. Fit or choose a prior for kernels of "
                "this shape."
            )
        if _is_discrete(prior):
            raise ConfigError(
                f"{call} is discrete, but a weight is a real number. Return a distribution over real kernels, such as "
                "pyro.distributions.Normal or Laplace."
            )
        return prior


def _is_discrete(prior: Any) -> bool:
    try:
        return bool(prior.support.is_discrete)
    except NotImplementedError:  # it does not declare a support
        return False


def _misfit(found: Any) -> str:
    """Say what is wrong with something that is not a Pyro distribution, and the cure."""
    if found is None:
        return "returned nothing. Is a return missing?"
    if isinstance(found, torch.distributions.Distribution):
        return (
            f"returned torch's {type(found).__name__}, which is not a Pyro distribution. Take the class of the same name from "
            "pyro.distributions, and .to_event(n) in place of Independent."
        )
    return (
        f"must return a Pyro distribution over one kernel, but returned a {type(found).__name__}. Return one of "
        "pyro.distributions, such as Normal(zeros, scale).to_event(n), n being the number of axes of a kernel."
    )
