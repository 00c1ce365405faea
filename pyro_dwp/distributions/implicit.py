"""Distributions over kernels that can be sampled but have no density: an integral over a latent variable.

    z ~ N(0, I_L),   w | z ~ p(w|z),   p(w) = ∫ p(w|z) N(z; 0, I) dz

`AuxiliaryELBO` bounds the KL divergence from such a distribution with an auxiliary encoder r(z|w). It needs what this class
offers and nothing more: the name of the encoder, L, and log p(w|z).

Axis letters: L latent, T entries of a flattened kernel, K edge of a kernel.
"""

import copy
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import constraints


class ImplicitPrior(TorchDistribution):
    """Distribution of one kernel, p(w) = ∫ p(w|z) N(z; 0, I) dz; batch = kernels, event = (K, ..., K).

    Samples are exact. `log_prob` raises: the density is intractable, and a random estimate would mislead any caller that asks
    twice. A subclass defines `conditional`. (Any other p(z) is a transform of N(0, I), and so part of `conditional`.)

    Args:
        group: name of the auxiliary encoder, a key of `Prior.encoders()`.
        latent_dim: L.
        kernel_shape: (K, ..., K).
        like: a tensor with the device and dtype that samples get, such as a parameter of p(w|z).

    Attributes:
        density: the `GroupDensity` that p(w|z) belongs to and that holds all its parameters, or None. The latent guide keeps a
            copy of it, and `AuxiliaryELBO` needs less memory with it.

    References:
        Atanov et al. 2018, The Deep Weight Prior, arXiv:1810.06943.

    Example:
        >>> from pyro.distributions import Normal
        >>> class Sheets(ImplicitPrior):
        ...     "Kernels that are constant up to noise."
        ...     def conditional(self, z):
        ...         return Normal(z.expand(*z.shape[:-1], 9), 0.1).to_event(1)
        >>> Sheets("1", 1, (3, 3), like=torch.zeros(())).expand([8, 4]).to_event(2).sample().shape
        torch.Size([8, 4, 3, 3])
    """

    arg_constraints: Mapping[str, Any] = {}
    has_rsample = True
    density: nn.Module | None = None

    def __init__(self, group: str, latent_dim: int, kernel_shape: tuple[int, ...], like: Tensor) -> None:
        self.group, self.latent_dim, self.like = group, latent_dim, like
        super().__init__(torch.Size(), torch.Size(kernel_shape), validate_args=False)

    @abstractmethod
    def conditional(self, z: Tensor) -> TorchDistribution:
        """Return p(w|z) of flattened kernels: z (..., L) → batch shape (...), event shape (T,)."""

    def conditional_log_prob(self, kernels: Tensor, z: Tensor) -> Tensor:
        """Return log p(w|z) in nats.

        Args:
            kernels: w, (N, T).
            z: (..., N, L).

        Returns:
            (..., N).
        """
        log_prob: Tensor = self.conditional(z).log_prob(kernels)
        return log_prob

    @constraints.dependent_property(is_discrete=False)
    def support(self) -> constraints.Constraint:
        """Every real kernel."""
        return constraints.independent(constraints.real, len(self.event_shape))

    def expand(self, batch_shape: torch.Size, _instance: TorchDistribution | None = None) -> "ImplicitPrior":
        """Return the distribution of independent kernels in this batch shape."""
        expanded = copy.copy(self)
        TorchDistribution.__init__(expanded, torch.Size(batch_shape), self.event_shape, validate_args=False)
        return expanded

    def renamed(self, group: str) -> "ImplicitPrior":
        """Return the same distribution under another name of its auxiliary encoder."""
        other = copy.copy(self)
        other.group = group
        return other

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008 (immutable)
        """Draw z, then w: (*sample_shape, *batch_shape, K, ..., K)."""
        shape = torch.Size(sample_shape) + self.batch_shape
        z = torch.randn((*shape, self.latent_dim), dtype=self.like.dtype, device=self.like.device)
        return self.conditional(z).rsample().reshape(shape + self.event_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Raise NotImplementedError: the density has no closed form."""
        raise NotImplementedError(
            f"{type(self).__name__} can be sampled but has no density: p(w) is an integral over the latent z. Use "
            "pyro_dwp.infer.AuxiliaryELBO, which bounds KL(q || p) with an auxiliary encoder, instead of Pyro's Trace_ELBO."
        )
