"""What the priors that are not fitted have in common: mean 0, and one standard deviation for all weights of a layer."""

import math

import torch
from pydantic import PositiveFloat
from torch import Tensor

from pyro_dwp.checks import checked
from pyro_dwp.priors.base import Prior
from pyro_dwp.sites import WeightSite


class ScaledPrior(Prior):
    """Zero-mean prior with one standard deviation for all weights of a layer: fixed, or He's, times a gain.

        s = gain · scale,   or, where scale is None,   s = gain · √(2 / fan_in),   fan_in = I · K^n

    A subclass makes its distribution from `standard_deviation(site)`, so that `scale` means the same in all of them.

    Args:
        scale: standard deviation of a weight; None uses He's.
        gain: factor on that standard deviation.

    Raises:
        ConfigError: if scale or gain is not positive.

    References:
        He, Zhang, Ren, Sun 2015, Delving Deep into Rectifiers.
    """

    unit: Tensor

    @checked
    def __init__(self, scale: PositiveFloat | None, gain: PositiveFloat) -> None:
        super().__init__()
        self.scale, self.gain = scale, gain
        self.register_buffer("unit", torch.ones(()), persistent=False)  # carries device and dtype

    def standard_deviation(self, site: WeightSite) -> Tensor:
        """Return s of this site's weights, ()."""
        return self.gain * (math.sqrt(2 / site.fan_in) if self.scale is None else self.scale) * self.unit
