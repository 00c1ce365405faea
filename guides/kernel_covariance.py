"""Gaussian whose weights are correlated within each kernel, and independent between kernels.

    q(w) = Π_k N(w_k; m_k, L_k L_kᵀ),   L_k lower triangular with positive diagonal

for the kernels k of a site, each of T = K^n weights. With one L for a layer, 378 numbers describe the uncertainty of all its
3 × 3 × 3 kernels; only their means differ. Such a family does not contain the mean field, which has a width for each weight; with
an L for each kernel it does.

Entropy, density and divergence from a Gaussian prior, over weights or over whole kernels, are exact.
"""

from collections.abc import Mapping

import pyro.distributions as dist
import torch
from pydantic import PositiveFloat
from pyro.distributions import TorchDistribution
from torch import Tensor

from guides.base import Guide
from guides.triangular import tril_from_root
from pyro_dwp.checks import checked
from pyro_dwp.distributions import Reshaped
from pyro_dwp.sites import WeightSite


class KernelCovariance(Guide):
    """Gaussian with full covariance within a kernel; one covariance for a layer, or one for each kernel.

    The covariance starts diagonal. Sites of one-weight kernels (biases, linear layers) have one standard deviation for all
    their weights if `shared`, else one for each.

    Args:
        sites: site name → site.
        relative_scale: initial standard deviation of a site's weights, as a fraction of the root mean square of its
            start weights.
        shared: one covariance for all kernels of a site. One for each kernel has T² parameters a kernel: 19 million
            for the default 3-D U-Net, whose weights are 0.7 million.

    Example:
        >>> from pyro_dwp.nn import UNet
        >>> from pyro_dwp.sites import weight_sites
        >>> guide = KernelCovariance(weight_sites(UNet(channels=(2, 4))))
        >>> guide.parameter("root", "init_conv.weight").shape
        torch.Size([27, 27])
    """

    @checked
    def __init__(
        self, sites: Mapping[str, WeightSite], relative_scale: PositiveFloat = 0.1, shared: bool = True
    ) -> None:
        super().__init__(sites)
        self.relative_scale = relative_scale
        for name, site in self.sites.items():
            entries = site.kernel_shape.numel()
            self.create("mean", name, site.shape)
            self.create("root", name, (*(() if shared else site.batch_shape), entries, entries))

    def start_site(self, name: str, weight: Tensor) -> None:
        """Set m to the start weight, and L to a multiple of the identity."""
        log_scale = self.initial_scale(name, weight, self.relative_scale).log()
        self.fill("mean", name, weight)
        self.fill("root", name, log_scale * torch.eye(self.sites[name].kernel_shape.numel()).to(log_scale))

    def distribution(self, name: str) -> TorchDistribution:
        """Return Π_k N(m_k, L_k L_kᵀ) over the kernels of a site."""
        site = self.sites[name]
        mean = self.parameter("mean", name).reshape(*site.batch_shape, -1)
        kernels = dist.MultivariateNormal(mean, scale_tril=tril_from_root(self.parameter("root", name)))
        return Reshaped(kernels, site.kernel_shape).to_event(len(site.batch_shape))
