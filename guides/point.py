"""Point mass: q(w) = δ(w − m). With it, SVI finds the maximum a posteriori estimate."""

from collections.abc import Mapping

import pyro.distributions as dist
from pyro.distributions import TorchDistribution
from torch import Tensor

from guides.base import Guide
from pyro_dwp.sites import WeightSite


class Point(Guide):
    """A single value for each weight; its entropy counts as 0.

    Args:
        sites: site name → site.
        start: site name → initial value m.
    """

    def __init__(self, sites: Mapping[str, WeightSite], start: Mapping[str, Tensor]) -> None:
        super().__init__(sites, start)
        for name in sites:
            self.add_parameter("value", name, start[name])

    def distribution(self, name: str) -> TorchDistribution:
        """Return the point mass at m."""
        value = self.parameter("value", name)
        return dist.Delta(value, event_dim=value.dim())
