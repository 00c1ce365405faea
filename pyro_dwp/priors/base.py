"""What every prior is: a rule that gives each weight site a distribution over one kernel.

To write a prior, subclass `PriorFamily` and return, for a site, a Pyro distribution whose event is one kernel. The
model expands it over the channels. Hang constants on buffers, so that they move with the module.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection

import torch
from pyro.distributions import TorchDistribution
from torch import nn

from pyro_dwp.errors import ConfigError
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
            ConfigError: if the prior of an exposed parameter does not fit it.
        """
        for site in filter(self.exposes, parameters):
            self.site_distribution(site)

    def site_distribution(self, site: WeightSite) -> TorchDistribution:
        """Return the prior of a whole site: batch shape (), event shape `site.shape`.

        Raises:
            ConfigError: if `distribution` returned a prior for kernels of another shape.
        """
        prior = self.distribution(site)
        fits = prior.batch_shape in (torch.Size(), site.batch_shape)
        if not fits or prior.event_shape != site.kernel_shape:
            raise ConfigError(
                f"The prior of site {site.name!r} (group {site.group!r}) must be over one kernel of shape "
                f"{tuple(site.kernel_shape)}, but {type(self).__name__} gave batch shape {tuple(prior.batch_shape)} and "
                f"event shape {tuple(prior.event_shape)}. Fit or choose a prior for kernels of this shape."
            )
        return prior.expand(site.batch_shape).to_event(len(site.batch_shape))
