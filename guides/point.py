"""Point mass: q(w) = δ(w − m). With it, SVI finds the maximum a posteriori estimate."""

from collections.abc import Mapping

import pyro.distributions as dist
from pyro.distributions import TorchDistribution
from torch import Tensor

from guides.base import Guide
from pyro_dwp.sites import WeightSite


class Point(Guide):
    """A single value m for each weight; its entropy counts as 0.

    Args:
        sites: site name → site.
    """

    def __init__(self, sites: Mapping[str, WeightSite]) -> None:
        super().__init__(sites)
        for name, site in self.sites.items():
            self.create("value", name, site.shape)

    def start_site(self, name: str, weight: Tensor) -> None:
        """Set m to the start weight."""
        self.fill("value", name, weight)

    def distribution(self, name: str) -> TorchDistribution:
        """Return the point mass at m."""
        value = self.parameter("value", name)
        return dist.Delta(value, event_dim=value.dim())
