"""Mixture of distributions of any class with equal weights.

q(w) = (1/M) Σ_m q_m(w),   E w = mean_m E_m w,   Var w = mean_m (Var_m w + (E_m w)²) − (E w)²
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints


class UniformMixture(TorchDistribution):
    """One of M distributions, each equally likely; they may be of different classes.

    Samples, density and moments are exact. The entropy has no closed form, and draws carry no gradient, since the choice of a
    component is discrete.

    Args:
        components: at least one; all of one batch shape B and one event shape.

    Raises:
        ValueError: if there is none, or their shapes differ.

    Example:
        >>> from pyro.distributions import Normal
        >>> pair = UniformMixture([Normal(-1.0, 0.1), Normal(1.0, 0.1)])
        >>> pair.mean, pair.variance
        (tensor(0.), tensor(1.0100))
    """

    arg_constraints: Mapping[str, Any] = {}
    has_rsample = False

    def __init__(self, components: Sequence[TorchDistribution], validate_args: bool | None = None) -> None:
        shapes = {(component.batch_shape, component.event_shape) for component in components}
        if len(shapes) != 1:
            raise ValueError(
                f"A mixture needs components of one batch shape and one event shape, but received {sorted(shapes)}."
            )
        self.components = list(components)
        super().__init__(*shapes.pop(), validate_args=validate_args)

    @constraints.dependent_property(is_discrete=False)
    def support(self) -> constraints.Constraint:
        """Every real event."""
        return constraints.independent(constraints.real, len(self.event_shape))

    @property
    def mean(self) -> Tensor:
        """Mean of the components' means, (*B, *event_shape)."""
        return torch.stack([component.mean for component in self.components]).mean(0)

    @property
    def variance(self) -> Tensor:
        """Mean variance within components plus variance between their means, (*B, *event_shape)."""
        means = torch.stack([component.mean for component in self.components])
        within = torch.stack([component.variance for component in self.components]).mean(0)
        return within + means.var(0, correction=0)

    def expand(self, batch_shape: torch.Size, _instance: TorchDistribution | None = None) -> "UniformMixture":
        """Return the distribution of independent events in this batch shape."""
        return UniformMixture([component.expand(batch_shape) for component in self.components], validate_args=False)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008 (immutable)
        """Draw a component for each event, then the event: (*sample_shape, *B, *event_shape)."""
        draws = torch.stack([component.sample(torch.Size(sample_shape)) for component in self.components])
        leading = draws.shape[1 : draws.dim() - len(self.event_shape)]
        chosen = torch.randint(len(draws), leading, device=draws.device)
        chosen = chosen.reshape(1, *leading, *(1 for _ in self.event_shape))
        return draws.gather(0, chosen.expand(draws[:1].shape))[0]

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density in nats: (..., *event_shape) → (...)."""
        if self._validate_args:
            self._validate_sample(value)
        densities = torch.stack([component.log_prob(value) for component in self.components])
        return densities.logsumexp(0) - math.log(len(self.components))
