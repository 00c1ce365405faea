"""What the priors without a source have in common: mean 0, and one standard deviation for all weights of a layer."""

import math

import torch
from torch import Tensor

from pyro_dwp.errors import ConfigError
from pyro_dwp.priors.base import PriorFamily
from pyro_dwp.sites import WeightSite


class ScaledPrior(PriorFamily):
    """Zero-mean prior whose weights have one standard deviation for each layer: fixed, or He's times a gain.

        s = gain · scale,   or, where scale is None,   s = gain · √(2 / fan_in),   fan_in = I · K^n

    A subclass makes its distribution from `standard_deviation(site)`, so that `scale` means the same in all of them.

    Args:
        scale: standard deviation of a weight; None takes He's.
        gain: factor on that standard deviation.

    Raises:
        ConfigError: if scale or gain is not positive.

    References:
        He, Zhang, Ren, Sun 2015, Delving Deep into Rectifiers.
    """

    unit: Tensor

    def __init__(self, scale: float | None, gain: float) -> None:
        super().__init__()
        if gain <= 0 or (scale is not None and scale <= 0):
            raise ConfigError(
                f"{type(self).__name__}, as a prior, needs positive scale and gain, but received {scale=}, {gain=}. "
                "scale is the standard deviation of a weight; leave it out for He's."
            )
        self.scale, self.gain = scale, gain
        self.register_buffer("unit", torch.ones(()), persistent=False)  # carries device and dtype

    def standard_deviation(self, site: WeightSite) -> Tensor:
        """Return s of this site's weights, ()."""
        return self.gain * (math.sqrt(2 / site.fan_in) if self.scale is None else self.scale) * self.unit
