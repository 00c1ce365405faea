"""Independent Laplace prior over the weights of a kernel: sharper at 0 than a Gaussian, with heavier tails.

    p(w) = Π_i exp(−|w_i| / b) / (2 b),   b = s / √2,   so that s is the standard deviation of a weight

Its negative logarithm is the L1 norm: under a point guide this prior is the lasso. Exact: its density, its moments (the
kurtosis is 6), its KL divergence from a Gaussian guide.
"""

import math

import pyro.distributions as dist
from pydantic import PositiveFloat
from pyro.distributions import TorchDistribution

from pyro_dwp.priors.scaled import ScaledPrior
from pyro_dwp.sites import WeightSite


class Laplace(ScaledPrior):
    """Zero-mean Laplace distribution of each weight: sparse, heavier tails than a Gaussian.

    Args:
        scale: standard deviation of a weight (√2 times the Laplace distribution's b); None uses He's, the square root
            of 2 / (I · K^n), per layer.
        gain: factor on that standard deviation.

    Raises:
        ConfigError: if scale or gain is not positive.

    References:
        Williams 1995, Bayesian Regularization and Pruning Using a Laplace Prior.
        Fortuin, Garriga-Alonso, Ober, Wenzel, Rätsch, Turner, van der Wilk, Aitchison 2022, Bayesian Neural Network
        Priors Revisited.

    Example:
        >>> import torch
        >>> site = WeightSite("w", torch.Size([8, 4, 3, 3]), "1")
        >>> prior = Laplace(scale=0.1).distribution(site)
        >>> prior.event_shape, round(prior.variance.sqrt().mean().item(), 4)
        (torch.Size([3, 3]), 0.1)
    """

    def __init__(self, scale: PositiveFloat | None = None, gain: PositiveFloat = 1.0) -> None:
        super().__init__(scale, gain)

    def distribution(self, site: WeightSite) -> TorchDistribution:
        """Return the Laplace distribution of one kernel of this site."""
        width = self.standard_deviation(site) / math.sqrt(2)
        return dist.Laplace(0 * width, width).expand(site.kernel_shape).to_event(len(site.kernel_shape))
