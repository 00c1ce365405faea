"""Encoder and decoder of convolution kernels with one hidden layer each, which know that kernels differ most in size.

A kernel's size is its root mean square r. Sizes vary much within a group of layers: a Student t that is fitted to the kernels has
2 to 7 degrees of freedom. So the encoder sees direction and log size,

    (w/r, log r) → mean and log standard deviation of r(z|w),

and the decoder has one factor eᵃ for the whole kernel:

    z → μ, log σ, a;      w | z ~ N( eᵃ μ, (eᵃ σ)² ).

With that, one hidden layer describes kernels about as well as two of `DenseEncoder` and `DenseDecoder` do without, for a third of
the multiplications, which every step of inference makes for every kernel.

Axis letters: K edge of a kernel, T = K^n its entries, L latent dimension, n spatial dimensions.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from pyro_dwp.nn.perceptron_coder import MINIMUM_LOG_SCALE, PerceptronCoder

SMALLEST = 1e-12  # square of the smallest size, in units of the group's, so that a kernel of zeros has one


class ShallowEncoder(PerceptronCoder):
    """r(z|w) from a kernel's direction and log size, by one hidden layer.

    Args:
        kernel_shape: (K, ..., K), any edge.
        latent_dim: L.
        kernel_scale: divides the kernels; the root mean square of the group's entries.
        hidden: width of the hidden layer.

    Example:
        >>> mean, log_scale = ShallowEncoder((5, 5), latent_dim=4)(torch.zeros(2, 3, 25))
        >>> mean.shape, log_scale.shape
        (torch.Size([2, 3, 4]), torch.Size([2, 3, 4]))
    """

    def widths(self, hidden: int) -> list[int]:
        """Return the widths of input, hidden layers and output."""
        return [self.entries + 1, hidden, 2 * self.latent_dim]

    def forward(self, kernels: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation of r(z|w), (..., L), for kernels (..., T) in units of the weights."""
        log_size = 0.5 * (kernels.square().mean(-1, keepdim=True) / self.kernel_scale.square() + SMALLEST).log()
        direction = kernels * (torch.exp(-log_size) / self.kernel_scale)
        mean, log_scale = self.layers(torch.cat([direction, log_size], -1)).chunk(2, -1)
        return mean, log_scale


class ShallowDecoder(PerceptronCoder):
    """p(w|z) by one hidden layer; mean and standard deviation have a common factor.

    The standardised log σ is softplus(b + 5) − 5 + a, and so never below −5 relative to the kernel's size.

    Args:
        kernel_shape: (K, ..., K), any edge.
        latent_dim: L.
        kernel_scale: multiplies the kernels; the root mean square of the group's entries.
        hidden: width of the hidden layer.

    Example:
        >>> mean, log_scale = ShallowDecoder((5, 5), latent_dim=4)(torch.zeros(2, 3, 4))
        >>> mean.shape, log_scale.shape
        (torch.Size([2, 3, 25]), torch.Size([2, 3, 25]))
    """

    def widths(self, hidden: int) -> list[int]:
        """Return the widths of input, hidden layers and output."""
        return [self.latent_dim, hidden, 2 * self.entries + 1]

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation of p(w|z), (..., T), for z (..., L), in units of the weights."""
        mean, raw, log_size = self.layers(z).split([self.entries, self.entries, 1], -1)
        log_size = log_size + self.kernel_scale.log()
        return mean * log_size.exp(), F.softplus(raw - MINIMUM_LOG_SCALE) + (MINIMUM_LOG_SCALE + log_size)
