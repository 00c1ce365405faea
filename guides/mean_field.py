"""Fully factorised Gaussian, the paper's variational family: q(w) = Π_i N(w_i; m_i, s_i²)."""

from collections.abc import Mapping

import pyro.distributions as dist
from pyro.distributions import TorchDistribution
from torch import Tensor

from guides.base import Guide
from guides.initial import initial_scale
from pyro_dwp.sites import WeightSite


class MeanField(Guide):
    """Independent Gaussians, one for each weight, parametrised by mean and log standard deviation.

    Args:
        sites: site name → site.
        start: site name → initial means m.
        relative_scale: initial standard deviation s of a site's weights, as a fraction of the root mean square of its
            initial means. Too large a scale drowns the first steps in noise; too small a one never grows in a short run.

    Raises:
        ConfigError: if relative_scale is not positive, a start does not fit its site, or is all 0.
    """

    def __init__(
        self, sites: Mapping[str, WeightSite], start: Mapping[str, Tensor], relative_scale: float = 0.1
    ) -> None:
        super().__init__(sites, start)
        for name in sites:
            scale = initial_scale(self, name, start[name], relative_scale)
            self.add_parameter("mean", name, start[name])
            self.add_parameter("log_scale", name, scale.log().expand(start[name].shape))

    def distribution(self, name: str) -> TorchDistribution:
        """Return N(m, s²) over the weights of a site."""
        mean = self.parameter("mean", name)
        return dist.Normal(mean, self.parameter("log_scale", name).exp()).to_event(mean.dim())
