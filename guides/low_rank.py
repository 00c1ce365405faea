"""Gaussian over all weights of a layer whose covariance is diagonal plus a few directions.

    q(w) = N(w; m, S (I + F Fᵀ) S),   w = m + S (F ε + η),   F with n rows and R columns, S diagonal and positive

for the n weights of a site; F has no unit. With the capacitance matrix C = I + Fᵀ F, of R rows and columns (Woodbury),

    log det Cov = log det C + 2 Σ log S_i

so that entropy and density are exact, at a cost of O(n R²) operations and n R numbers of memory. The family contains the mean
field, and with R ≥ n − 1 every Gaussian.

*How F starts.* At F = 0 the ELBO's gradient for F vanishes (it depends on F through F Fᵀ), and equal columns stay equal. So F
starts random: each row is a random direction, long enough to give F 1 % of the variance of its weight. All weights of a site
start with exactly the same standard deviation.
"""

from collections.abc import Mapping
from typing import Annotated

import pyro.distributions as dist
import torch
from annotated_types import Ge, Le
from pydantic import PositiveFloat
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.nn import functional as F

from guides.base import Guide
from pyro_dwp.checks import checked
from pyro_dwp.distributions import Reshaped
from pyro_dwp.sites import WeightSite

SHARE = 0.01  # of the variance that starts in F


class LowRank(Guide):
    """Gaussian over all weights of a layer: diagonal covariance plus a few directions (low rank).

    Args:
        sites: site name → site.
        rank: directions R of each layer; a site with fewer than R weights has as many directions as weights.
        relative_scale: initial standard deviation of a site's weights, as a fraction of the root mean square of its
            start weights.

    References:
        Ong, Nott, Smith 2018, Gaussian Variational Approximation with a Factor Covariance Structure.

    Example:
        >>> from pyro_dwp.nn import UNet
        >>> from pyro_dwp.sites import weight_sites
        >>> guide = LowRank(weight_sites(UNet(channels=(2, 4))), rank=3)
        >>> guide.parameter("factor", "init_conv.weight").shape
        torch.Size([54, 3])
    """

    @checked
    def __init__(
        self,
        sites: Mapping[str, WeightSite],
        rank: Annotated[int, Ge(1), Le(4096)] = 8,
        relative_scale: PositiveFloat = 0.1,
    ) -> None:
        super().__init__(sites)
        self.relative_scale = relative_scale
        for name, site in self.sites.items():
            weights = site.shape.numel()
            self.create("mean", name, site.shape)
            self.create("factor", name, (weights, min(rank, weights)))
            self.create("log_scale", name, site.shape)

    def start_site(self, name: str, weight: Tensor) -> None:
        """Set m to the start weight, the rows of F to random directions, and one S for the whole site."""
        scale = self.initial_scale(name, weight, self.relative_scale)
        directions = torch.randn(self.parameter("factor", name).shape, dtype=torch.float64)
        self.fill("mean", name, weight)
        self.fill("factor", name, (SHARE / (1 - SHARE)) ** 0.5 * F.normalize(directions).to(scale))
        self.fill("log_scale", name, (scale * (1 - SHARE) ** 0.5).log())

    def distribution(self, name: str) -> TorchDistribution:
        """Return N(m, S (I + F Fᵀ) S) over the weights of a site."""
        mean, scale = self.parameter("mean", name).flatten(), self.parameter("log_scale", name).exp().flatten()
        factor = scale[:, None] * self.parameter("factor", name)
        return Reshaped(dist.LowRankMultivariateNormal(mean, factor, scale.square()), self.sites[name].shape)
