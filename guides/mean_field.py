"""Fully factorised Gaussian, the paper's variational family: q(w) = Π_i N(w_i; m_i, s_i²)."""

from collections.abc import Mapping

import pyro.distributions as dist
from pyro.distributions import TorchDistribution
from torch import Tensor

from guides.base import Guide
from pyro_dwp.errors import ConfigError
from pyro_dwp.sites import WeightSite


class MeanField(Guide):
    """Independent Gaussians, one for each weight, parametrised by mean and log standard deviation.

    Args:
        sites: site name → site.
        start: site name → initial means m.
        relative_scale: initial standard deviation s of a site's weights, as a fraction of the root mean square of its
            initial means. Too large a scale drowns the first steps in noise; too small a one never grows in a short run.

    Raises:
        ConfigError: if relative_scale is not positive, or a start does not fit its site.
    """

    def __init__(
        self, sites: Mapping[str, WeightSite], start: Mapping[str, Tensor], relative_scale: float = 0.1
    ) -> None:
        super().__init__(sites, start)
        if relative_scale <= 0:
            raise ConfigError(f"MeanField needs a positive relative_scale, but received {relative_scale}.")
        for name in sites:
            if not start[name].any():
                raise ConfigError(
                    f"MeanField scales site {name!r} by the size of its initial means, but they are all 0. Start from the prior "
                    "or from a network."
                )
            scale = relative_scale * start[name].square().mean().sqrt()
            self.add_parameter("mean", name, start[name])
            self.add_parameter("log_scale", name, scale.log().expand(start[name].shape))

    def distribution(self, name: str) -> TorchDistribution:
        """Return N(m, s²) over the weights of a site."""
        mean = self.parameter("mean", name)
        return dist.Normal(mean, self.parameter("log_scale", name).exp()).to_event(mean.dim())
