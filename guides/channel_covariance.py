"""Gaussian whose weights are correlated over output channels and over input channels.

A site's weights are T = K^n matrices of O output by I input channels, one for each entry of the kernels:

    q(w) = Π_t MN(W_t; M_t, s_t U, s_t V),   W_t = M_t + s_t A E_t Bᵀ,   U = A Aᵀ,   V = B Bᵀ

U and V are shared by the T entries, which are independent of each other, as in Louizos and Welling's linear layers; s_t is a
width for each entry. Beside the means this takes O² + I² + T numbers, fewer than the mean field's widths. The family does not
contain the mean field.

*Scales.* (A, B, s), (a A, B / a, s) and (a A, B, s / a) are the same distribution. To choose one of them, A and B are lower
triangular with a positive diagonal whose product is 1: their log diagonals are centred before use. So det U = det V = 1, only s
sets the size, and the entropy is ½ n (1 + log 2π) + O I Σ log s_t for the n weights of the site.

A bias is a matrix of one column, with a full covariance over its O entries.
"""

from collections.abc import Mapping

import torch
from pydantic import PositiveFloat
from pyro.distributions import TorchDistribution
from torch import Tensor

from guides.base import Guide
from guides.triangular import tril_from_root
from pyro_dwp.checks import checked
from pyro_dwp.distributions import MatrixNormal, Reshaped
from pyro_dwp.sites import WeightSite


class ChannelCovariance(Guide):
    """Gaussian with one covariance over output channels and one over input channels, shared by all entries of a kernel.

    The covariances start as the identity: independent weights with one standard deviation.

    Args:
        sites: site name → site.
        relative_scale: initial standard deviation of a site's weights, as a fraction of the root mean square of its
            start weights.

    References:
        Louizos, Welling 2016, Structured and Efficient Variational Deep Learning with Matrix Gaussian Posteriors.

    Example:
        >>> from pyro_dwp.nn import UNet
        >>> from pyro_dwp.sites import weight_sites
        >>> guide = ChannelCovariance(weight_sites(UNet(channels=(2, 4))))
        >>> [tuple(guide.parameter(kind, "down1.conv_1.weight").shape) for kind in ("rows", "columns", "log_scale")]
        [(4, 4), (2, 2), (27,)]
    """

    @checked
    def __init__(self, sites: Mapping[str, WeightSite], relative_scale: PositiveFloat = 0.1) -> None:
        super().__init__(sites)
        self.relative_scale = relative_scale
        for name, site in self.sites.items():
            rows, columns, entries = _matrices(site)
            self.create("mean", name, site.shape)
            self.create("rows", name, (rows, rows))
            self.create("columns", name, (columns, columns))
            self.create("log_scale", name, (entries,))

    def start_site(self, name: str, weight: Tensor) -> None:
        """Set M to the start weight, U and V to the identity, and one s for all entries."""
        self.fill("mean", name, weight)
        for kind in ("rows", "columns"):
            self.fill(kind, name, weight.new_zeros(()))
        self.fill("log_scale", name, self.initial_scale(name, weight, self.relative_scale).log())

    def distribution(self, name: str) -> TorchDistribution:
        """Return Π_t MN(M_t, s_t U, s_t V) over the weights of a site."""
        site = self.sites[name]
        rows, columns = (_unit_tril(self.parameter(kind, name)) for kind in ("rows", "columns"))
        mean = self.parameter("mean", name).reshape(_matrices(site))
        scale = self.parameter("log_scale", name).exp()
        return Reshaped(MatrixNormal(mean, rows, columns, scale), site.shape)


def _matrices(site: WeightSite) -> torch.Size:
    """Return (O, I, T) of a site; I is 1 for a bias."""
    rows, columns = (*site.batch_shape, 1)[:2]
    return torch.Size((rows, columns, site.kernel_shape.numel()))


def _unit_tril(root: Tensor) -> Tensor:
    """Return the triangular factor of determinant 1."""
    return tril_from_root(root - root.diagonal().mean() * torch.eye(len(root), dtype=root.dtype, device=root.device))
