"""The marginal of a guide with a latent variable: a distribution over weights that can be drawn from but has no density."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints


class DecodedKernels(TorchDistribution):
    """q(w) = ∫ q(w|z) q(z) dz: draws are exact, and there is no density.

    Args:
        latent: q(z).
        decode: z with any leading axes → q(w|z), whose batch shape is these axes.
        event_shape: of w.
    """

    arg_constraints: Mapping[str, Any] = {}
    has_rsample = True

    def __init__(
        self, latent: TorchDistribution, decode: Callable[[Tensor], TorchDistribution], event_shape: torch.Size
    ) -> None:
        self.latent, self.decode = latent, decode
        super().__init__(latent.batch_shape, event_shape, validate_args=False)

    @constraints.dependent_property(is_discrete=False)
    def support(self) -> constraints.Constraint:
        """Every real event."""
        return constraints.independent(constraints.real, len(self.event_shape))

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008 (immutable)
        """Draw z, then w: (*sample_shape, *event_shape)."""
        drawn: Tensor = self.decode(self.latent.rsample(torch.Size(sample_shape))).rsample()
        return drawn

    def log_prob(self, value: Tensor) -> Tensor:
        """Raise NotImplementedError: the density has no closed form."""
        raise NotImplementedError(
            "The latent guide's q(w) can be sampled but has no density: it is an integral over the latent z. Call the guide "
            "itself, whose sites and factors bound it, under pyro_dwp.infer.AuxiliaryELBO or Pyro's Trace_ELBO."
        )
