"""Encoder and decoder of appendix B of Kuzina, Egorov and Burnaev (2019), as matrix products.

They hold the convolutions of the paper and compute the same function. On a kernel with edges of 3 voxels each of those layers is
a small linear map: a padded convolution of one voxel is its centre tap, a transposed convolution of one voxel lays out its taps,
and on grids of 3 and 2 voxels a convolution is a matrix made of its taps.

Axis letters: K edge of a kernel, T = K^n its entries, L latent dimension, n spatial dimensions.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd

from pyro_dwp.errors import ConfigError
from pyro_dwp.nn.unet import CONVOLUTIONS

TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


class PaperEncoder(nn.Module):
    """The paper's r(z|w): three convolutions with max-pooling, then linear maps to a mean and a log variance.

    Args:
        kernel_shape: (3, 3, 3) or (3, 3).
        latent_dim: L.
        kernel_scale: divides the kernels; 1 is the paper as printed.

    Raises:
        ConfigError: if the kernel's edge is not 3, or it has neither two nor three axes.

    References:
        Kuzina, Egorov, Burnaev 2019, appendix B.

    Example:
        >>> mean, log_scale = PaperEncoder()(torch.zeros(5, 27))
        >>> mean.shape, log_scale.shape
        (torch.Size([5, 6]), torch.Size([5, 6]))
    """

    kernel_scale: Tensor
    taps_3: Tensor
    taps_2: Tensor

    def __init__(self, kernel_shape: Sequence[int] = (3, 3, 3), latent_dim: int = 6, kernel_scale: float = 1.0) -> None:
        super().__init__()
        ndim = _paper_ndim(kernel_shape)
        convolution = CONVOLUTIONS[ndim]
        self.kernel_shape, self.latent_dim = tuple(kernel_shape), latent_dim
        self.conv_1 = convolution(1, 32, 3, padding=1)
        self.conv_2 = convolution(32, 64, 3, padding=1)
        self.conv_3 = convolution(64, 128, 1)
        self.mean = nn.Linear(128, latent_dim)
        self.log_variance = nn.Linear(128, latent_dim)
        self.register_buffer("kernel_scale", torch.tensor(float(kernel_scale)))
        self.register_buffer("taps_3", _taps(3, ndim), persistent=False)
        self.register_buffer("taps_2", _taps(2, ndim), persistent=False)

    def forward(self, kernels: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation of r(z|w).

        Args:
            kernels: w, (..., T), in the units of the weights.

        Returns:
            Two tensors (..., L).
        """
        ndim = len(self.kernel_shape)
        x = _convolve(kernels / self.kernel_scale, self.conv_1, self.taps_3)
        x = x.unflatten(-1, (*self.kernel_shape, 32))
        for axis in range(-1 - ndim, -1):
            first, second, third = x.unbind(axis)
            x = torch.stack([first, torch.maximum(second, third)], axis)
        x = _convolve(F.elu(x).flatten(-1 - ndim), self.conv_2, self.taps_2)
        x = F.elu(x.unflatten(-1, (2**ndim, 64)).amax(-2))
        x = F.elu(F.linear(x, self.conv_3.weight.flatten(1), self.conv_3.bias))
        return self.mean(x), 0.5 * self.log_variance(x)


class PaperDecoder(nn.Module):
    """The paper's p(w|z): a convolution, a transposed one, then convolutions of one voxel, and tanh on both heads.

    *Warning* The tanh bounds the standardised mean to (-1, 1) and the standardised σ to (0.61, 1.65). With a
    `kernel_scale` of 1, as printed, the density is therefore nearly flat over the kernels of a trained network.

    Args:
        kernel_shape: (3, 3, 3) or (3, 3).
        latent_dim: L.
        kernel_scale: multiplies the kernels; 1 is the paper as printed.

    Raises:
        ConfigError: if the kernel's edge is not 3, or it has neither two nor three axes.

    References:
        Kuzina, Egorov, Burnaev 2019, appendix B.

    Example:
        >>> mean, log_scale = PaperDecoder()(torch.zeros(5, 6))
        >>> mean.shape, log_scale.shape
        (torch.Size([5, 27]), torch.Size([5, 27]))
    """

    kernel_scale: Tensor

    def __init__(self, kernel_shape: Sequence[int] = (3, 3, 3), latent_dim: int = 6, kernel_scale: float = 1.0) -> None:
        super().__init__()
        ndim = _paper_ndim(kernel_shape)
        convolution = CONVOLUTIONS[ndim]
        self.kernel_shape, self.latent_dim = tuple(kernel_shape), latent_dim
        self.linear = nn.Linear(latent_dim, 128)
        self.conv_1 = convolution(128, 128, 3, padding=1)
        self.up = TRANSPOSED[ndim](128, 128, 3)
        self.conv_2 = convolution(128, 64, 1)
        self.conv_3 = convolution(64, 32, 1)
        self.mean = convolution(32, 1, 1)
        self.log_variance = convolution(32, 1, 1)
        self.register_buffer("kernel_scale", torch.tensor(float(kernel_scale)))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation of p(w|z).

        Args:
            z: latent, (..., L).

        Returns:
            Two tensors (..., T), in the units of the weights and their logarithm.
        """
        centre = self.conv_1.weight.flatten(2)[:, :, math.prod(self.kernel_shape) // 2]
        x = F.elu(F.linear(self.linear(z).reshape(-1, 128), centre, self.conv_1.bias), inplace=True)
        taps = self.up.weight.flatten(2).permute(2, 1, 0)
        x = F.elu(F.linear(x, taps.flatten(0, 1), _bias(self.up).repeat(len(taps))), inplace=True).reshape(-1, 128)
        x = F.elu(F.linear(x, self.conv_2.weight.flatten(1), self.conv_2.bias), inplace=True)
        x = F.elu(F.linear(x, self.conv_3.weight.flatten(1), self.conv_3.bias), inplace=True)
        heads = torch.cat([self.mean.weight, self.log_variance.weight]).flatten(1)
        heads = F.linear(x, heads, torch.cat([_bias(self.mean), _bias(self.log_variance)])).tanh()
        mean, log_variance = heads.reshape(*z.shape[:-1], len(taps), 2).unbind(-1)
        return mean * self.kernel_scale, 0.5 * log_variance + self.kernel_scale.log()


def _paper_ndim(kernel_shape: Sequence[int]) -> int:
    if tuple(kernel_shape) not in ((3, 3), (3, 3, 3)):
        raise ConfigError(
            "The paper's kernel coders take kernels of shape (3, 3) or (3, 3, 3), but received "
            f"{tuple(kernel_shape)}. Use the shallow coders for other shapes."
        )
    return len(kernel_shape)


def _taps(edge: int, ndim: int) -> Tensor:
    """Return which tap of a padded 3-voxel convolution joins input voxel x to output voxel y, (3^n, X, Y), 0 or 1."""
    voxels = torch.tensor(list(itertools.product(range(edge), repeat=ndim)))
    taps = torch.tensor(list(itertools.product(range(-1, 2), repeat=ndim)))
    step = voxels[:, None] - voxels[None, :]
    return (step == taps[:, None, None]).all(-1).float()


def _convolve(x: Tensor, layer: _ConvNd, taps: Tensor) -> Tensor:
    """Apply a padded 3-voxel convolution, weight (O, I, 3, ...), on a small grid: (..., X I) → (..., Y O)."""
    matrix = torch.einsum("oit,txy->yoxi", layer.weight.flatten(2), taps).flatten(2).flatten(0, 1)
    return F.linear(x, matrix, _bias(layer).repeat(taps.shape[2]))


def _bias(layer: _ConvNd) -> Tensor:
    return layer.bias if layer.bias is not None else layer.weight.new_zeros(layer.out_channels)
