"""Scale mixture of two Gaussians for each weight: a broad one for the weights that matter, a narrow one for the rest.

    p(w) = Π_i [ π N(w_i; 0, s₁²) + (1 − π) N(w_i; 0, s₂²) ],   s₂ = r s₁

Here the prior is set by the standard deviation s of a weight overall, the ratio r and the weight π:

    s² = π s₁² + (1 − π) s₂²,   so   s₁ = s / √(π + (1 − π) r²)

Blundell et al. choose π from {1/4, 1/2, 3/4}, s₁ from {1, e⁻¹, e⁻²} and s₂ from {e⁻⁶, e⁻⁷, e⁻⁸}; that is weight = π,
ratio = s₂ / s₁ and scale = √(π s₁² + (1 − π) s₂²). Their ratios lie between e⁻⁸ and e⁻⁴ (0.018). The default here is
milder, since near 0 the gradient is 1 / s₂² times the weight.

Exact: its density and its moments; the kurtosis is 3 (π + (1 − π) r⁴) / (π + (1 − π) r²)². The KL divergence from a guide has
no closed form and is estimated from samples.
"""

import math

import pyro.distributions as dist
import torch
from pydantic import PositiveFloat
from pyro.distributions import TorchDistribution

from pyro_dwp.checks import Share, checked
from pyro_dwp.priors.scaled import ScaledPrior
from pyro_dwp.sites import WeightSite


class ScaleMixture(ScaledPrior):
    """Mixture of a broad and a narrow Gaussian for each weight (Blundell et al. 2015).

    Args:
        scale: standard deviation s of a weight overall; None uses He's, the square root of 2 / (I · K^n), per layer.
        gain: factor on that standard deviation.
        ratio: r, standard deviation of the narrow Gaussian divided by that of the broad one, between 0 and 1.
        weight: π, share of the broad Gaussian, between 0 and 1.

    Raises:
        ConfigError: if scale or gain is not positive, or ratio or weight not between 0 and 1.

    References:
        Blundell, Cornebise, Kavukcuoglu, Wierstra 2015, Weight Uncertainty in Neural Networks, section 3.3.

    Example:
        The paper's π = 1/4, s₁ = 1, s₂ = e⁻⁶:

        >>> site = WeightSite("w", torch.Size([8, 4, 3, 3]), "1")
        >>> prior = ScaleMixture(scale=0.5, ratio=math.exp(-6), weight=0.25).distribution(site)
        >>> prior.base_dist.component_distribution.scale[0, 0]
        tensor([1.0000, 0.0025])
    """

    @checked
    def __init__(
        self,
        scale: PositiveFloat | None = None,
        gain: PositiveFloat = 1.0,
        ratio: Share = 0.1,
        weight: Share = 0.5,
    ) -> None:
        super().__init__(scale, gain)
        self.ratio, self.weight = ratio, weight

    def distribution(self, site: WeightSite) -> TorchDistribution:
        """Return the mixture over one kernel of this site."""
        broad = self.standard_deviation(site) / math.sqrt(self.weight + (1 - self.weight) * self.ratio**2)
        scales = torch.stack([broad, self.ratio * broad])
        shares = torch.stack([self.weight * self.unit, (1 - self.weight) * self.unit])
        weights = dist.MixtureSameFamily(dist.Categorical(shares), dist.Normal(0 * scales, scales))
        return weights.expand(site.kernel_shape).to_event(len(site.kernel_shape))
