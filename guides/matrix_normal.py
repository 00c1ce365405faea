"""Gaussian whose weights are correlated over output channels and over input channels.

A site's weights are T = K^n matrices of O output by I input channels, one for each entry of the kernels:

    q(w) = Π_t MN(W_t; M_t, s_t U, s_t V),   W_t = M_t + s_t A E_t Bᵀ,   U = A Aᵀ,   V = B Bᵀ

U and V are shared by the T entries, which are independent of each other, as Louizos and Welling have it for linear layers; s_t
is a width for each entry. That is O² + I² + T numbers beside the means: the covariance of a layer costs less than a
mean field's, which it does not contain.

*Scales.* (a A, B / a, s) and (A, B, s), and (a A, B, s / a), are the same distribution. To choose one of them, A and B are lower
triangular with a positive diagonal whose product is 1: their log diagonals are centred before use. So det U = det V = 1, sizes
are in s alone, and the entropy is ½ n (1 + log 2π) + O I Σ log s_t for the n weights of the site.

A bias is a matrix of one column, with a full covariance over its O entries.
"""

from collections.abc import Mapping

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from guides.base import Guide
from guides.initial import initial_scale
from guides.triangular import tril_from_root
from pyro_dwp.distributions import MatrixNormal as MatrixNormalDistribution
from pyro_dwp.distributions import Reshaped
from pyro_dwp.sites import WeightSite


class MatrixNormal(Guide):
    """Gaussian with a covariance over output channels, one over input channels, shared by a kernel's entries.

    The covariances start as the identity: independent weights of one standard deviation.

    Args:
        sites: site name → site.
        start: site name → initial means M.
        relative_scale: initial standard deviation of a site's weights, as a fraction of the root mean square of its
            initial means.

    Raises:
        ConfigError: if relative_scale is not positive, a start does not fit its site, or is all 0.

    References:
        Louizos, Welling 2016, Structured and Efficient Variational Deep Learning with Matrix Gaussian Posteriors.

    Example:
        >>> from pyro_dwp.nn import UNet
        >>> from pyro_dwp.sites import weight_sites
        >>> network = UNet(channels=(2, 4))
        >>> sites = weight_sites(network)
        >>> guide = MatrixNormal(sites, {name: network.get_parameter(name) for name in sites})
        >>> [tuple(guide.parameter(kind, "down1.conv_1.weight").shape) for kind in ("rows", "columns", "log_scale")]
        [(4, 4), (2, 2), (27,)]
    """

    def __init__(
        self, sites: Mapping[str, WeightSite], start: Mapping[str, Tensor], relative_scale: float = 0.1
    ) -> None:
        super().__init__(sites, start)
        for name, site in sites.items():
            scale = initial_scale(self, name, start[name], relative_scale)
            rows, columns, entries = _matrices(site)
            self.add_parameter("mean", name, start[name])
            self.add_parameter("rows", name, scale.new_zeros(rows, rows))
            self.add_parameter("columns", name, scale.new_zeros(columns, columns))
            self.add_parameter("log_scale", name, scale.log().expand(entries))

    def distribution(self, name: str) -> TorchDistribution:
        """Return Π_t MN(M_t, s_t U, s_t V) over the weights of a site."""
        site = self.sites[name]
        rows, columns = (_unit_tril(self.parameter(kind, name)) for kind in ("rows", "columns"))
        mean = self.parameter("mean", name).reshape(_matrices(site))
        scale = self.parameter("log_scale", name).exp()
        return Reshaped(MatrixNormalDistribution(mean, rows, columns, scale), site.shape)


def _matrices(site: WeightSite) -> torch.Size:
    """Return (O, I, T) of a site; I is 1 for a bias."""
    rows, columns = (*site.batch_shape, 1)[:2]
    return torch.Size((rows, columns, site.kernel_shape.numel()))


def _unit_tril(root: Tensor) -> Tensor:
    """Return the triangular factor of determinant 1."""
    return tril_from_root(root - root.diagonal().mean() * torch.eye(len(root), dtype=root.dtype, device=root.device))
