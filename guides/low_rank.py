"""Gaussian over all weights of a layer whose covariance is diagonal plus a few directions.

    q(w) = N(w; m, S (I + F Fᵀ) S),   w = m + S (F ε + η),   F of n rows and R columns, S diagonal and positive

for the n weights of a site; F has no unit. With the capacitance matrix C = I + Fᵀ F, of R rows and columns (Woodbury),

    log det Cov = log det C + 2 Σ log S_i

so that entropy and density are exact, at O(n R²) operations and n R numbers of memory. The family contains the mean field, and
with R ≥ n − 1 every Gaussian.

*How F starts.* At F = 0 the ELBO's gradient for F vanishes (it depends on F through F Fᵀ), and columns that are equal stay
equal. So F starts random: each row is a random direction, of a length that gives F 1 % of the variance of its weight; all weights
start with the same standard deviation exactly.
"""

from collections.abc import Mapping

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.nn import functional as F

from guides.base import Guide
from guides.initial import initial_scale
from pyro_dwp.distributions import Reshaped
from pyro_dwp.errors import ConfigError
from pyro_dwp.sites import WeightSite

SHARE = 0.01  # of the variance that starts in F


class LowRank(Guide):
    """Gaussian over all weights of a layer: diagonal covariance plus a few directions (low rank).

    Args:
        sites: site name → site.
        start: site name → initial means m.
        rank: directions R of each layer; a site of fewer than R weights has as many as weights.
        relative_scale: initial standard deviation of a site's weights, as a fraction of the root mean square of its
            initial means.

    Raises:
        ConfigError: if rank is below 1, relative_scale is not positive, a start does not fit its site, or is all 0.

    References:
        Ong, Nott, Smith 2018, Gaussian Variational Approximation with a Factor Covariance Structure.

    Example:
        >>> from pyro_dwp.nn import UNet
        >>> from pyro_dwp.sites import weight_sites
        >>> network = UNet(channels=(2, 4))
        >>> sites = weight_sites(network)
        >>> guide = LowRank(sites, {name: network.get_parameter(name) for name in sites}, rank=3)
        >>> guide.parameter("factor", "init_conv.weight").shape
        torch.Size([54, 3])
    """

    def __init__(
        self,
        sites: Mapping[str, WeightSite],
        start: Mapping[str, Tensor],
        rank: int = 8,
        relative_scale: float = 0.1,
    ) -> None:
        super().__init__(sites, start)
        if rank < 1:
            raise ConfigError(
                f"LowRank needs a rank of 1 or more, but received {rank}. Without directions it is mean_field."
            )
        for name, site in sites.items():
            scale = initial_scale(self, name, start[name], relative_scale)
            directions = torch.randn(site.shape.numel(), min(rank, site.shape.numel()), dtype=torch.float64)
            self.add_parameter("mean", name, start[name])
            self.add_parameter("factor", name, (SHARE / (1 - SHARE)) ** 0.5 * F.normalize(directions).to(scale))
            log_scale = (scale * (1 - SHARE) ** 0.5).log()
            self.add_parameter("log_scale", name, log_scale.expand(start[name].shape))

    def distribution(self, name: str) -> TorchDistribution:
        """Return N(m, S (I + F Fᵀ) S) over the weights of a site."""
        mean, scale = self.parameter("mean", name).flatten(), self.parameter("log_scale", name).exp().flatten()
        factor = scale[:, None] * self.parameter("factor", name)
        return Reshaped(dist.LowRankMultivariateNormal(mean, factor, scale.square()), self.sites[name].shape)
