"""Random slices of a tensor are 0: dropout as a distribution.

w[i] = b_i m[i] / (1 − p),   b_i ~ Bernoulli(1 − p) independently for each of the n indices i of one axis

E w = m,   Var w = m² p / (1 − p),   H = n [ −p log p − (1 − p) log(1 − p) ]
"""

from collections.abc import Mapping
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints


class ChannelDropout(TorchDistribution):
    """A tensor whose slices along one axis are dropped together, each with probability p; those kept are divided by 1 − p.

    Draws and moments are exact, and draws carry gradients to m. It is a discrete distribution, over one value for each of the
    2^n masks: it has no density, and its entropy is that of the masks.

    Args:
        value: m, (*B, *event_shape).
        rate: p, at least 0 and below 1.
        axis: of the event, along which the slices lie.
        event_dim: number of axes of the event.

    Example:
        >>> q = ChannelDropout(torch.ones(2, 3), rate=0.5, axis=1, event_dim=2)
        >>> q.mean.unique(), q.variance.unique(), sorted({len(column.unique()) for column in q.rsample().T})
        (tensor([1.]), tensor([1.]), [1])
    """

    arg_constraints: Mapping[str, Any] = {}
    has_rsample = True

    def __init__(
        self, value: Tensor, rate: float, axis: int, event_dim: int, validate_args: bool | None = None
    ) -> None:
        self.value, self.rate, self.axis = value, rate, axis
        batch_dim = value.dim() - event_dim
        super().__init__(value.shape[:batch_dim], value.shape[batch_dim:], validate_args=validate_args)

    @constraints.dependent_property(is_discrete=False)
    def support(self) -> constraints.Constraint:
        """Every real event, so that a prior over real weights fits."""
        return constraints.independent(constraints.real, len(self.event_shape))

    @property
    def mean(self) -> Tensor:
        """The value m, (*B, *event_shape)."""
        return self.value

    @property
    def variance(self) -> Tensor:
        """Return m² p / (1 − p), (*B, *event_shape)."""
        return self.value.square() * (self.rate / (1 - self.rate))

    def expand(self, batch_shape: torch.Size, _instance: TorchDistribution | None = None) -> "ChannelDropout":
        """Return the distribution of tensors in this batch shape, each with a mask of its own."""
        value = self.value.expand(torch.Size(batch_shape) + self.event_shape)
        return ChannelDropout(value, self.rate, self.axis, len(self.event_shape), validate_args=False)

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008 (immutable)
        """Draw a mask for each event: (*sample_shape, *B, *event_shape)."""
        slices = [edge if axis == self.axis else 1 for axis, edge in enumerate(self.event_shape)]
        shape = (*sample_shape, *self.batch_shape, *slices)
        kept = torch.rand(shape, dtype=self.value.dtype, device=self.value.device) >= self.rate
        return self.value * (kept / (1 - self.rate))

    def entropy(self) -> Tensor:
        """Return the entropy of the masks in nats, (*B,); it does not depend on the value."""
        chances = self.value.new_tensor([self.rate, 1 - self.rate])
        return (self.event_shape[self.axis] * torch.special.entr(chances).sum()).expand(self.batch_shape)
