"""A distribution whose events have another shape, such as vectors arranged as kernels."""

from collections.abc import Mapping
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints


class Reshaped(TorchDistribution):
    """A distribution with its events in another shape; the density is unchanged.

    Exact wherever the base is; gradients, entropy and moments are the base's.

    Args:
        base: batch shape B, event shape of T entries, such as (T,).
        event_shape: of T entries.

    Raises:
        ValueError: if the base's event is a scalar or has another number of entries.

    Example:
        >>> from pyro.distributions import MultivariateNormal
        >>> kernels = Reshaped(MultivariateNormal(torch.zeros(9), torch.eye(9)), torch.Size([3, 3]))
        >>> kernels.expand([8, 4]).to_event(2).sample().shape
        torch.Size([8, 4, 3, 3])
    """

    arg_constraints: Mapping[str, Any] = {}

    def __init__(self, base: TorchDistribution, event_shape: torch.Size, validate_args: bool | None = None) -> None:
        if not base.event_shape or base.event_shape.numel() != torch.Size(event_shape).numel():
            raise ValueError(
                f"A base of event shape {tuple(base.event_shape)} cannot be reshaped to {tuple(event_shape)}: give one whose "
                f"events are vectors or arrays of {torch.Size(event_shape).numel()} entries."
            )
        self.base = base
        super().__init__(base.batch_shape, torch.Size(event_shape), validate_args=validate_args)

    @property
    def has_rsample(self) -> bool:
        """Whether the base can be sampled with gradients."""
        return bool(self.base.has_rsample)

    @constraints.dependent_property(is_discrete=False)
    def support(self) -> constraints.Constraint:
        """Every real event."""
        return constraints.independent(constraints.real, len(self.event_shape))

    @property
    def mean(self) -> Tensor:
        """The base's mean, (*B, *event_shape)."""
        return self._reshaped(self.base.mean)

    @property
    def variance(self) -> Tensor:
        """The base's variance of each entry, (*B, *event_shape)."""
        return self._reshaped(self.base.variance)

    def expand(self, batch_shape: torch.Size, _instance: TorchDistribution | None = None) -> "Reshaped":
        """Return the distribution of independent events in this batch shape."""
        return Reshaped(self.base.expand(torch.Size(batch_shape)), self.event_shape, validate_args=False)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008 (immutable)
        """Draw: (*sample_shape, *B, *event_shape)."""
        return self._reshaped(self.base.sample(torch.Size(sample_shape)))

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008 (immutable)
        """Draw with gradients: (*sample_shape, *B, *event_shape)."""
        return self._reshaped(self.base.rsample(torch.Size(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density in nats: (..., *event_shape) → (...)."""
        if self._validate_args:
            self._validate_sample(value)
        leading = value.shape[: value.dim() - len(self.event_shape)]
        return self.base.log_prob(value.reshape(leading + self.base.event_shape))

    def entropy(self) -> Tensor:
        """Return the base's entropy, in nats, of shape B."""
        return self.base.entropy()

    def _reshaped(self, value: Tensor) -> Tensor:
        return value.reshape(value.shape[: value.dim() - len(self.base.event_shape)] + self.event_shape)
