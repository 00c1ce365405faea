"""Gaussian prior around the weights of a source network: the target's weights stay near them unless its labels object.

    p(w) = Π_i N(w_i; v_i, s²),   v the source network's weight at the same site,   s fixed, or s = ρ · rms(v) per layer

Exact: its density, its moments, its KL divergence from a Gaussian guide. It is a prior over this one network, not over
kernels: permuting the channels of the source network, which leaves its output unchanged, changes the prior.
"""

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyro_dwp.errors import CheckpointError, ConfigError, suggest
from pyro_dwp.kernels.tensor_file import read_tensor_file
from pyro_dwp.priors.base import PriorFamily
from pyro_dwp.sites import WeightSite

CURE = "Name a file under networks/ in a folder that run/train_source.py made."
RULES = "train a source network of this architecture, or give this site another prior by rules (--prior assigned)"


class Pretrained(PriorFamily):
    """Gaussian around the weights of a source network, at the same sites (MOPED, KWYK).

    Args:
        path: a source network, runs/NAME/networks/FILE.safetensors of run/train_source.py.
        scale: standard deviation of a weight; None takes relative_scale times the layer's root mean square.
        relative_scale: standard deviation as a fraction of the root mean square of the layer's source weights.

    Raises:
        CheckpointError: if the file is missing, damaged or no network; at a site, if the network lacks it or has it in
            another shape.
        ConfigError: if scale or relative_scale is not positive, or a layer's source weights are all 0 and scale is None.

    References:
        Krishnan, Subedar, Tickoo 2020, Specifying Weight Priors in Bayesian Deep Neural Networks with Empirical Bayes (MOPED).
        McClure et al. 2019, Knowing What You Know in Brain Segmentation Using Bayesian Deep Neural Networks (KWYK).
    """

    def __init__(self, path: str, scale: float | None = None, relative_scale: float = 1.0) -> None:
        super().__init__()
        if relative_scale <= 0 or (scale is not None and scale <= 0):
            raise ConfigError(
                f"Pretrained needs a positive scale or relative_scale, but received {scale=}, {relative_scale=}. "
                "relative_scale 1 lets a weight move about as far as the layer's weights are large."
            )
        self.path, self.scale, self.relative_scale = path, scale, relative_scale
        tensors, _ = read_tensor_file(path, "network", CheckpointError, CURE)
        self.names = [name for name, tensor in tensors.items() if tensor.is_floating_point()]
        for name in self.names:
            self.register_buffer(_key(name), tensors[name], persistent=False)

    def distribution(self, site: WeightSite) -> TorchDistribution:
        """Return the Gaussian around this site's source weights, a kernel for each of its channels."""
        if site.name not in self.names:
            raise CheckpointError(
                f"The source network {self.path} has no weight at site {site.name!r} of shape {tuple(site.shape)}. "
                f"{suggest(site.name, self.names)} To go on, {RULES}."
            )
        mean: Tensor = getattr(self, _key(site.name))
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
                f"The prior at site {site.name!r} is as wide as its source weights are large, but in {self.path} they are all "
                "0. Set scale, or keep this site a point parameter by rules (--prior assigned)."
            )
        return (self.relative_scale * mean.square().mean().sqrt()).expand(mean.shape)


def _key(name: str) -> str:
    """Return the name of a weight's buffer; torch forbids dots in it."""
    return f"source:{name.replace('.', '/')}"
