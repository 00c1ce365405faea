"""Encoder and decoder of convolution kernels, the two halves of a kernel VAE: r(z|w) and p(w|z).

Both work on flattened kernels in the units of the weights. Inside they work on kernels divided by `kernel_scale`, one number
for each group of kernels: a mean is multiplied by it, a log scale shifted by its logarithm.

Axis letters: K edge of a kernel, T = K^n its entries, L latent dimension, n spatial dimensions.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

from annotated_types import Ge, Le
from pydantic import PositiveFloat
from torch import Tensor, nn
from torch.nn import functional as F

from pyro_dwp.checks import checked
from pyro_dwp.nn.paper_coders import PaperDecoder, PaperEncoder
from pyro_dwp.nn.perceptron_coder import MINIMUM_LOG_SCALE, PerceptronCoder
from pyro_dwp.nn.shallow_coders import ShallowDecoder, ShallowEncoder

Coder = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From kernels to mean and log standard deviation of z, or the other way round."""

Variant = Literal["shallow", "dense", "paper"]


class DenseEncoder(PerceptronCoder):
    """r(z|w) by three linear maps with ELU between them.

    Args:
        kernel_shape: (K, ..., K), any edge.
        latent_dim: L.
        kernel_scale: divides the kernels; the root mean square of the group's entries.
        hidden: width of the two hidden layers.

    Example:
        >>> import torch
        >>> mean, log_scale = DenseEncoder((5, 5), latent_dim=4)(torch.zeros(2, 3, 25))
        >>> mean.shape, log_scale.shape
        (torch.Size([2, 3, 4]), torch.Size([2, 3, 4]))
    """

    def widths(self, hidden: int) -> list[int]:
        """Return the widths of input, hidden layers and output."""
        return [self.entries, hidden, hidden, 2 * self.latent_dim]

    def forward(self, kernels: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation of r(z|w), (..., L), for kernels (..., T) in units of the weights."""
        mean, log_scale = self.layers(kernels / self.kernel_scale).chunk(2, -1)
        return mean, log_scale


class DenseDecoder(PerceptronCoder):
    """p(w|z) by three linear maps with ELU between them; mean and log standard deviation are unbounded above.

    The standardised log σ is softplus(a + 5) - 5, never below -5 (σ stays above 0.7 % of the group's scale), so that
    near-identical kernels cannot make the density, and with it the gradients, explode.

    Args:
        kernel_shape: (K, ..., K), any edge.
        latent_dim: L.
        kernel_scale: multiplies the kernels; the root mean square of the group's entries.
        hidden: width of the two hidden layers.

    Example:
        >>> import torch
        >>> mean, log_scale = DenseDecoder((5, 5), latent_dim=4)(torch.zeros(2, 3, 4))
        >>> mean.shape, log_scale.shape
        (torch.Size([2, 3, 25]), torch.Size([2, 3, 25]))
    """

    def widths(self, hidden: int) -> list[int]:
        """Return the widths of input, hidden layers and output."""
        return [self.latent_dim, hidden, hidden, 2 * self.entries]

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation of p(w|z), (..., T), for z (..., L), in units of the weights."""
        mean, raw = self.layers(z).chunk(2, -1)
        log_scale = F.softplus(raw - MINIMUM_LOG_SCALE) + MINIMUM_LOG_SCALE
        return mean * self.kernel_scale, log_scale + self.kernel_scale.log()


class KernelCoders(nn.Module):
    """An encoder and the decoder that belongs to it.

    Args:
        encoder: w → mean and log standard deviation of r(z|w).
        decoder: z → mean and log standard deviation of p(w|z).
        latent_dim: L, of both.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, latent_dim: int) -> None:
        super().__init__()
        self.encoder, self.decoder, self.latent_dim = encoder, decoder, latent_dim


@checked
def build_coders(
    variant: Variant,
    kernel_shape: Sequence[int] = (3, 3, 3),
    latent_dim: Annotated[int, Ge(1), Le(1024)] = 6,
    kernel_scale: PositiveFloat = 1.0,
    hidden: Annotated[int, Ge(1), Le(4096)] = 128,
) -> KernelCoders:
    """Return an encoder and a decoder of one variant, freshly initialised.

    Args:
        variant: "shallow" (one hidden layer, which knows a kernel's size), "dense" (two) or "paper" (appendix B of the paper).
        kernel_shape: (K, ..., K).
        latent_dim: L.
        kernel_scale: standardises the kernels; for "paper", 1 is the paper as printed.
        hidden: width of the hidden layers; without effect on "paper".

    Raises:
        ConfigError: if the variant is unknown, a number is outside its range, or the paper's coders do not fit the shape.

    Example:
        >>> [sum(p.numel() for p in build_coders(name).parameters()) for name in ("paper", "dense", "shallow")]
        [962414, 46018, 13251]
    """
    sizes = (kernel_shape, latent_dim, kernel_scale)
    if variant == "paper":
        return KernelCoders(PaperEncoder(*sizes), PaperDecoder(*sizes), latent_dim)
    encoder, decoder = {"shallow": (ShallowEncoder, ShallowDecoder), "dense": (DenseEncoder, DenseDecoder)}[variant]
    return KernelCoders(encoder(*sizes, hidden), decoder(*sizes, hidden), latent_dim)
