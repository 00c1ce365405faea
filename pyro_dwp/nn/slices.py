"""Networks of two dimensions on volumes: each slice across the last axis is an image of its own.

Axis letters: B batch, C channel, D H W voxels.
"""

from collections.abc import Callable
from functools import wraps
from typing import Protocol, TypeVar

from torch import Tensor


class HasDimensions(Protocol):
    """A network that says how many spatial dimensions its convolutions have."""

    @property
    def ndim(self) -> int:
        """Return 2 or 3."""


Network = TypeVar("Network", bound=HasDimensions)


def slice_by_slice(forward: Callable[[Network, Tensor], Tensor]) -> Callable[[Network, Tensor], Tensor]:
    """Let the `forward` of a network with `ndim` 2 take volumes, too, whose slices it sees one by one.

    (B, C, D, H, W) → W images of (D, H) in the batch → (B, classes, D, H, W). Images (B, C, H, W), and every input of a network
    with another `ndim`, are passed on as they are.

    *Warning*: what a network computes over its batch, as batch normalisation does, is then computed over slices and cases.

    Args:
        forward: method of a network that has the attribute `ndim`; returns logits on the grid of its input.

    Example:
        >>> import torch
        >>> class Counts:
        ...     ndim = 2
        ...     @slice_by_slice
        ...     def forward(self, x):
        ...         return torch.arange(len(x)).reshape(-1, 1, 1, 1).expand(-1, 1, *x.shape[2:])
        >>> Counts().forward(torch.zeros(2, 1, 5, 4, 3))[:, 0, 0, 0].tolist()
        [[0, 1, 2], [3, 4, 5]]
    """

    @wraps(forward)
    def on_volumes(network: Network, x: Tensor) -> Tensor:
        if network.ndim != 2 or x.ndim != 5:
            return forward(network, x)
        logits = forward(network, x.movedim(-1, 1).flatten(0, 1))
        return logits.unflatten(0, (x.shape[0], x.shape[-1])).movedim(1, -1)

    return on_volumes
