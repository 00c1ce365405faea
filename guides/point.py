"""Point mass: q(w) = δ(w − m). With it, SVI finds the maximum a posteriori estimate."""

from collections.abc import Mapping

import pyro.distributions as dist
from pyro.distributions import TorchDistribution
from torch import Tensor

from guides.base import Guide, key, site_parameters
from pyro_dwp.sites import WeightSite


class Point(Guide):
    """A single value for each weight; its entropy counts as 0.

    Args:
        sites: site name → site.
        start: site name → initial value m.
    """

    def __init__(self, sites: Mapping[str, WeightSite], start: Mapping[str, Tensor]) -> None:
        super().__init__(sites, start)
        self.value = site_parameters({name: start[name] for name in sites})

    def distribution(self, name: str) -> TorchDistribution:
        """Return the point mass at m."""
        value = self.value[key(name)]
        return dist.Delta(value, event_dim=value.dim())
