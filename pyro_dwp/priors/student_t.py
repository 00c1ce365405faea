"""Student-t prior over the weights of a kernel: heavy tails, for each weight or for each kernel.

    per weight:   p(w) = Π_i t_ν(w_i; 0, c²)
    per kernel:   p(w) = t_ν(w; 0, c² 1) = ∫ N(w; 0, c² u 1) Inv-Gamma(u; ν/2, ν/2) du

with c² = s² (ν − 2) / ν, so that s is the standard deviation of a weight. Per kernel, all weights share the scale u: they
are uncorrelated, but large or small together.

Exact: its density and its moments. The KL divergence from a guide has no closed form and is estimated from samples.
"""

import math
from typing import Annotated, Literal

import pyro.distributions as dist
import torch
from annotated_types import Gt
from pydantic import PositiveFloat
from pyro.distributions import TorchDistribution

from pyro_dwp.checks import checked
from pyro_dwp.distributions import Reshaped, SharedStudentT
from pyro_dwp.priors.scaled import ScaledPrior
from pyro_dwp.sites import WeightSite


class StudentT(ScaledPrior):
    """Zero-mean Student-t distribution of each weight, or of each kernel: the heaviest tails.

    Args:
        degrees_of_freedom: ν, above 2, where the variance is finite; the smaller, the heavier the tails. The kurtosis is
            3 + 6 / (ν − 4), infinite up to 4.
        scale: standard deviation of a weight; None uses He's, the square root of 2 / (I · K^n), per layer.
        gain: factor on that standard deviation.
        per: "weight" makes all weights independent; "kernel" lets the weights of a kernel be large together.

    Raises:
        ConfigError: if scale or gain is not positive, ν not above 2, or `per` neither of the two.

    References:
        Fortuin, Garriga-Alonso, Ober, Wenzel, Rätsch, Turner, van der Wilk, Aitchison 2022, Bayesian Neural Network
        Priors Revisited.

    Example:
        >>> site = WeightSite("w", torch.Size([8, 4, 3, 3]), "1")
        >>> prior = StudentT(scale=0.1, per="kernel").distribution(site)
        >>> prior.event_shape, round(prior.variance.sqrt().mean().item(), 4)
        (torch.Size([3, 3]), 0.1)
    """

    @checked
    def __init__(
        self,
        degrees_of_freedom: Annotated[float, Gt(2)] = 4.0,
        scale: PositiveFloat | None = None,
        gain: PositiveFloat = 1.0,
        per: Literal["weight", "kernel"] = "weight",
    ) -> None:
        super().__init__(scale, gain)
        self.degrees_of_freedom, self.per = degrees_of_freedom, per

    def distribution(self, site: WeightSite) -> TorchDistribution:
        """Return the Student-t distribution of one kernel of this site."""
        freedom = self.degrees_of_freedom * self.unit
        width = self.standard_deviation(site) * math.sqrt(1 - 2 / self.degrees_of_freedom)
        if self.per == "weight":
            weights = dist.StudentT(freedom, 0 * width, width).expand(site.kernel_shape)
            return weights.to_event(len(site.kernel_shape))
        identity = torch.eye(site.kernel_shape.numel(), dtype=width.dtype, device=width.device)
        return Reshaped(SharedStudentT(freedom, 0 * identity[0], width * identity), site.kernel_shape)
