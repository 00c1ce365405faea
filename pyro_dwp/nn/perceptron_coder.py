"""What encoders and decoders of kernels that are perceptrons have in common."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

MINIMUM_LOG_SCALE = -5.0


class PerceptronCoder(nn.Module, ABC):
    """An encoder or decoder of flattened kernels: linear maps with ELU between them.

    Args:
        kernel_shape: (K, ..., K), any edge.
        latent_dim: L.
        kernel_scale: of the kernels; the root mean square of the group's entries.
        hidden: width of the hidden layers.
    """

    kernel_scale: Tensor

    def __init__(
        self,
        kernel_shape: Sequence[int] = (3, 3, 3),
        latent_dim: int = 6,
        kernel_scale: float = 1.0,
        hidden: int = 128,
    ) -> None:
        super().__init__()
        self.kernel_shape, self.latent_dim, self.entries = tuple(kernel_shape), latent_dim, math.prod(kernel_shape)
        inputs, *widths = self.widths(hidden)
        self.layers = nn.Sequential(nn.Linear(inputs, widths[0]))
        for before, after in pairwise(widths):
            self.layers.extend([nn.ELU(), nn.Linear(before, after)])
        self.register_buffer("kernel_scale", torch.tensor(float(kernel_scale)))

    @abstractmethod
    def widths(self, hidden: int) -> list[int]:
        """Return the widths of input, hidden layers and output."""
