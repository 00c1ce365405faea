"""Gaussian prior around the weights of a source network: the target's weights stay near them unless the labels pull them away.

The standard deviation is fixed, or a fraction of the root mean square of each layer's source weights.
"""

from pathlib import Path

import torch
from pydantic import PositiveFloat
from torch import Tensor

from pyro_dwp.checks import checked
from pyro_dwp.errors import ConfigError
from pyro_dwp.nn import read_network
from pyro_dwp.priors.around import AroundSource
from pyro_dwp.sites import WeightSite


class Pretrained(AroundSource):
    """Gaussian around the weights of a source network, at the same sites (MOPED, KWYK).

    Args:
        path: a source network, runs/NAME/networks/FILE.safetensors of run/train_source.py.
        scale: standard deviation of a weight; None takes relative_scale times the layer's root mean square.
        relative_scale: standard deviation as a fraction of the root mean square of the layer's source weights; with 1 a
            weight moves about as far as the layer's weights are large.

    Raises:
        CheckpointError: if the file is missing, damaged, not a network or not finite; at a site, if the network lacks it or has
            it in another shape.
        ConfigError: if scale or relative_scale is not positive, or a layer's source weights are all 0 and scale is None.

    References:
        Krishnan, Subedar, Tickoo 2020, Specifying Weight Priors in Bayesian Deep Neural Networks with Empirical Bayes (MOPED).
        McClure et al. 2019, Knowing What You Know in Brain Segmentation Using Bayesian Deep Neural Networks (KWYK).
    """

    @checked
    def __init__(self, path: Path, scale: PositiveFloat | None = None, relative_scale: PositiveFloat = 1.0) -> None:
        super().__init__(path, read_network(path)[0])
        self.scale, self.relative_scale = scale, relative_scale

    def standard_deviation(self, site: WeightSite, mean: Tensor) -> Tensor:
        """Return s, the same for all weights of a site."""
        if self.scale is not None:
            return torch.full_like(mean, self.scale)
        if not mean.any():
            raise ConfigError(
                f"The standard deviation of the prior at site {site.name!r} is proportional to the size of its source weights, "
                f"but in {self.where} they are all 0. Set scale, or keep it as a point parameter by rules (--prior assigned)."
            )
        return (self.relative_scale * mean.square().mean().sqrt()).expand(mean.shape)
