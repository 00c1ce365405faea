"""Fully factorised Gaussian, the paper's variational family: q(w) = Π_i N(w_i; m_i, s_i²)."""

from collections.abc import Mapping

import pyro.distributions as dist
from pydantic import PositiveFloat
from pyro.distributions import TorchDistribution
from torch import Tensor

from guides.base import Guide
from pyro_dwp.checks import checked
from pyro_dwp.sites import WeightSite


class MeanField(Guide):
    """Independent Gaussians, one for each weight, parametrised by mean and log standard deviation.

    Args:
        sites: site name → site.
        relative_scale: initial standard deviation s of a site's weights, as a fraction of the root mean square of its
            start weights. Too large a scale drowns the first steps in noise; too small a scale cannot grow in a short run.
    """

    @checked
    def __init__(self, sites: Mapping[str, WeightSite], relative_scale: PositiveFloat = 0.1) -> None:
        super().__init__(sites)
        self.relative_scale = relative_scale
        for name, site in self.sites.items():
            self.create("mean", name, site.shape)
            self.create("log_scale", name, site.shape)

    def start_site(self, name: str, weight: Tensor) -> None:
        """Set m to the start weight, and one s for the whole site."""
        self.fill("mean", name, weight)
        self.fill("log_scale", name, self.initial_scale(name, weight, self.relative_scale).log())

    def distribution(self, name: str) -> TorchDistribution:
        """Return N(m, s²) over the weights of a site."""
        mean = self.parameter("mean", name)
        return dist.Normal(mean, self.parameter("log_scale", name).exp()).to_event(mean.dim())
