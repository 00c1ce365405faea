"""Gaussian whose weights are correlated within each kernel, and independent between kernels.

    q(w) = Π_k N(w_k; m_k, L_k L_kᵀ),   L_k lower triangular with positive diagonal

for the kernels k of a site, each of T = K^n weights. With one L for a layer only the means differ between its kernels: 378
numbers say how a layer of 3 × 3 × 3 kernels is uncertain. That leaves out what the mean field has, a width for each weight; with
an L for each kernel the family contains the mean field.

Entropy, density and divergence from a Gaussian prior, over weights or over whole kernels, are exact.
"""

from collections.abc import Mapping

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from guides.base import Guide
from guides.initial import initial_scale
from guides.triangular import tril_from_root
from pyro_dwp.distributions import Reshaped
from pyro_dwp.sites import WeightSite


class KernelCovariance(Guide):
    """Gaussian with full covariance within a kernel; one covariance for a layer, or one for each kernel.

    The covariance starts diagonal. Sites of one-weight kernels (biases, linear layers) have one standard deviation for all
    their weights if `shared`, else one for each.

    Args:
        sites: site name → site.
        start: site name → initial means m.
        relative_scale: initial standard deviation of a site's weights, as a fraction of the root mean square of its
            initial means.
        shared: one covariance for all kernels of a site. One for each kernel has T² parameters a kernel: 19 million
            for the default 3-D U-Net, whose weights are 0.7 million.

    Raises:
        ConfigError: if relative_scale is not positive, a start does not fit its site, or is all 0.

    Example:
        >>> from pyro_dwp.nn import UNet
        >>> from pyro_dwp.sites import weight_sites
        >>> network = UNet(channels=(2, 4))
        >>> sites = weight_sites(network)
        >>> guide = KernelCovariance(sites, {name: network.get_parameter(name) for name in sites})
        >>> guide.parameter("root", "init_conv.weight").shape
        torch.Size([27, 27])
    """

    def __init__(
        self,
        sites: Mapping[str, WeightSite],
        start: Mapping[str, Tensor],
        relative_scale: float = 0.1,
        shared: bool = True,
    ) -> None:
        super().__init__(sites, start)
        for name, site in sites.items():
            scale = initial_scale(self, name, start[name], relative_scale)
            root = scale.log() * torch.eye(site.kernel_shape.numel(), dtype=scale.dtype, device=scale.device)
            self.add_parameter("mean", name, start[name])
            self.add_parameter("root", name, root if shared else root.expand(*site.batch_shape, *root.shape))

    def distribution(self, name: str) -> TorchDistribution:
        """Return Π_k N(m_k, L_k L_kᵀ) over the kernels of a site."""
        site = self.sites[name]
        mean = self.parameter("mean", name).reshape(*site.batch_shape, -1)
        kernels = dist.MultivariateNormal(mean, scale_tril=tril_from_root(self.parameter("root", name)))
        return Reshaped(kernels, site.kernel_shape).to_event(len(site.batch_shape))
