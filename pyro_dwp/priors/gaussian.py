"""Independent Gaussian prior over the weights of a kernel: the usual baseline.

    p(w) = Π_i N(w_i; 0, s²),   s fixed, or s² = gain² · 2 / (I · K^n)   (He et al. 2015)

Exact: its density, its moments, its KL divergence from a Gaussian guide.
"""

import pyro.distributions as dist
import torch
from pydantic import PositiveFloat
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyro_dwp.priors.scaled import ScaledPrior
from pyro_dwp.sites import WeightSite


def GaussianPrior(scale: Tensor, kernel_shape: torch.Size) -> TorchDistribution:  # noqa: N802 (reads as a distribution)
    """Return N(0, s²) for each weight of a kernel: batch shape of `scale`, event shape `kernel_shape`.

    Args:
        scale: standard deviation s of a weight, any shape.
        kernel_shape: (K, ..., K).

    Example:
        >>> prior = GaussianPrior(torch.tensor(0.1), torch.Size([3, 3, 3]))
        >>> prior.batch_shape, prior.event_shape
        (torch.Size([]), torch.Size([3, 3, 3]))
    """
    scale = scale[(..., *(None for _ in kernel_shape))].expand(scale.shape + kernel_shape)
    return dist.Normal(torch.zeros_like(scale), scale).to_event(len(kernel_shape))


class Gaussian(ScaledPrior):
    """Zero-mean Gaussian with one standard deviation for all weights of a layer.

    Args:
        scale: standard deviation of a weight; None uses He's, the square root of 2 / (I · K^n), per layer.
        gain: factor on that standard deviation.

    Raises:
        ConfigError: if scale or gain is not positive.

    References:
        He, Zhang, Ren, Sun 2015, Delving Deep into Rectifiers.
    """

    def __init__(self, scale: PositiveFloat | None = None, gain: PositiveFloat = 1.0) -> None:
        super().__init__(scale, gain)

    def distribution(self, site: WeightSite) -> TorchDistribution:
        """Return N(0, s²) over one kernel of this site."""
        return GaussianPrior(self.standard_deviation(site), site.kernel_shape)
