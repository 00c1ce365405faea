"""Gaussian prior around the weights of a source network: the target's weights stay near them unless the labels pull them away.

    p(w) = Π_i N(w_i; v_i, s²),   v the source network's weight at the same site,   s fixed, or s = ρ · rms(v) per layer

Exact: its density, its moments, its KL divergence from a Gaussian guide. It is a prior over this one network, not over
kernels: permuting the channels of the source network, which leaves its output unchanged, changes the prior.
"""

from pathlib import Path

import pyro.distributions as dist
import torch
from pydantic import PositiveFloat
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyro_dwp.checks import checked
from pyro_dwp.errors import CheckpointError, ConfigError, suggest
from pyro_dwp.files import check_finite, read_tensors
from pyro_dwp.priors.base import Prior
from pyro_dwp.sites import WeightSite, module_key

CURE = "Name a file under networks/ in a folder that run/train_source.py made."
RULES = "train a source network of this architecture, or give this site another prior by rules (--prior assigned)"


class Pretrained(Prior):
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
        super().__init__()
        self.path, self.scale, self.relative_scale = path, scale, relative_scale
        tensors, _ = read_tensors(path, "network", CURE)
        check_finite(tensors, str(path), CURE)
        self.names = [name for name, tensor in tensors.items() if tensor.is_floating_point()]
        for name in self.names:
            self.register_buffer(f"source_{module_key(name)}", tensors[name], persistent=False)

    def distribution(self, site: WeightSite) -> TorchDistribution:
        """Return the Gaussian around this site's source weights, a kernel for each of its channels."""
        if site.name not in self.names:
            raise CheckpointError(
                f"The source network {self.path} has no weight at site {site.name!r} of shape {tuple(site.shape)}. "
                f"{suggest(site.name, self.names)} To go on, {RULES}."
            )
        mean: Tensor = getattr(self, f"source_{module_key(site.name)}")
        if mean.shape != site.shape:
            raise CheckpointError(
                f"Site {site.name!r} has a weight of shape {tuple(site.shape)}, but in the source network {self.path} it has "
                f"{tuple(mean.shape)}. To go on, {RULES}."
            )
        return dist.Normal(mean, self._standard_deviation(site, mean)).to_event(len(site.kernel_shape))

    def _standard_deviation(self, site: WeightSite, mean: Tensor) -> Tensor:
        if self.scale is not None:
            return torch.full_like(mean, self.scale)
        if not mean.any():
            raise ConfigError(
                f"The standard deviation of the prior at site {site.name!r} is proportional to the size of its source weights, "
                f"but in {self.path} they are all 0. Set scale, or keep it as a point parameter by rules (--prior assigned)."
            )
        return (self.relative_scale * mean.square().mean().sqrt()).expand(mean.shape)
