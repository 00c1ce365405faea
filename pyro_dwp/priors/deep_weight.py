"""The deep weight prior: a generative model of convolution kernels, learned from trained networks.

    z ~ N(0, I_L),   w | z ~ N(μ_φ(z), σ_φ(z)²),   p(w) = ∫ p_φ(w|z) p(z) dz

The decoder (μ_φ, σ_φ) is that of a variational autoencoder trained on source kernels, then frozen. The prior can be
sampled; its density is an integral without closed form. An *implicit* prior: `AuxiliaryELBO` bounds its KL divergence.

Axis letters: L latent, K edge of a kernel, n spatial dimensions.

References:
    Atanov, Ashukha, Struminsky, Vetrov, Welling 2018, The Deep Weight Prior, arXiv:1810.06943.
    Kuzina, Egorov, Burnaev 2019, Front. Neurosci. 13:844.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import constraints

from pyro_dwp.nn.kernel_coders import KernelCoders, build_coders
from pyro_dwp.priors.density import KernelDensity
from pyro_dwp.priors.learned import LearnedPrior


class DeepWeightPrior(TorchDistribution):
    """Distribution of one kernel under a decoder; batch = kernels, event = (K, ..., K).

    `sample` is exact. `log_prob` raises: the density is intractable, and a random estimate would betray any caller
    that asks twice.

    Args:
        decoder: z, (..., L) → mean and log standard deviation of the kernel, each (..., K^n).
        latent: L.
        kernel_shape: (K, ..., K).
        group: name that the ELBO finds the auxiliary encoder by.
        origin: a tensor whose device and dtype samples have.
        batch_shape: shape of independent kernels.

    Example:
        >>> decoder = lambda z: (z.sum(-1, keepdim=True).expand(*z.shape[:-1], 9), torch.zeros(*z.shape[:-1], 9))
        >>> prior = DeepWeightPrior(decoder, 2, torch.Size([3, 3]), "1", torch.zeros(()))
        >>> prior.expand([8, 4]).to_event(2).sample().shape
        torch.Size([8, 4, 3, 3])
    """

    arg_constraints: Mapping[str, Any] = {}
    has_rsample = True

    def __init__(
        self,
        decoder: nn.Module,
        latent: int,
        kernel_shape: torch.Size,
        group: str,
        origin: Tensor,
        batch_shape: torch.Size = torch.Size(),  # noqa: B008 (immutable)
        validate_args: bool | None = None,
    ) -> None:
        self.decoder, self.latent, self.group, self.origin = decoder, latent, group, origin
        super().__init__(batch_shape, torch.Size(kernel_shape), validate_args=validate_args)

    @constraints.dependent_property(is_discrete=False)
    def support(self) -> constraints.Constraint:
        """Every real kernel."""
        return constraints.independent(constraints.real, len(self.event_shape))

    def expand(self, batch_shape: torch.Size, _instance: TorchDistribution | None = None) -> "DeepWeightPrior":
        """Return the prior of independent kernels in this batch shape."""
        return DeepWeightPrior(
            self.decoder, self.latent, self.event_shape, self.group, self.origin, torch.Size(batch_shape), False
        )

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008 (immutable)
        """Draw z, then w: (*sample_shape, *batch_shape, K, ..., K)."""
        shape = torch.Size(sample_shape) + self.batch_shape
        z = torch.randn((*shape, self.latent), dtype=self.origin.dtype, device=self.origin.device)
        mean, log_scale = self.decoder(z)
        return (mean + log_scale.exp() * torch.randn_like(mean)).reshape(shape + self.event_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Raise NotImplementedError: the density has no closed form."""
        raise NotImplementedError(
            "DeepWeightPrior can be sampled but has no density: p(w) is an integral over the latent z. Use "
            "pyro_dwp.infer.AuxiliaryELBO, which bounds KL(q || p) with an auxiliary encoder, instead of Pyro's Trace_ELBO."
        )


class DeepWeightDensity(KernelDensity):
    """The coders of one group; its distribution is the decoder's.

    Args:
        kernel_shape: (K, ..., K).
        variant: "paper" or "dense", see `build_coders`.
        latent: L.
        hidden: width of the hidden layers, "dense" only.
        kernel_scale: standardises the kernels; stored with the coders.
    """

    family = "deep_weight"
    origin: Tensor

    def __init__(
        self,
        kernel_shape: Sequence[int],
        variant: str = "dense",
        latent: int = 6,
        hidden: int = 128,
        kernel_scale: float = 1.0,
    ) -> None:
        super().__init__(kernel_shape, variant=variant, latent=latent, hidden=hidden)
        coders = build_coders(variant, self.kernel_shape, latent, kernel_scale, hidden)
        self.encoder, self.decoder, self.latent_dim = coders.encoder, coders.decoder, latent
        self.register_buffer("origin", torch.zeros(()), persistent=False)

    @property
    def coders(self) -> KernelCoders:
        """Encoder and decoder as a pair; the modules are this density's own."""
        return KernelCoders(self.encoder, self.decoder, self.latent_dim)

    @property
    def num_parameters(self) -> int:
        """Number of the decoder's parameters; the encoder is no part of the density."""
        return sum(parameter.numel() for parameter in self.decoder.parameters())

    def check(self) -> None:
        """Refuse a scale of the kernels that is not positive."""
        self.require_positive("encoder.kernel_scale")
        self.require_positive("decoder.kernel_scale")

    def distribution(self, group: str = "") -> DeepWeightPrior:
        """Return p(w) = ∫ p(w|z) p(z) dz of one kernel."""
        return DeepWeightPrior(self.decoder, self.latent_dim, self.kernel_shape, group, self.origin)


class DeepWeight(LearnedPrior):
    """Deep weight prior: the decoder of a variational autoencoder of source kernels, one for each group.

    Args:
        path: a prior saved by `run/train_prior.py`; None takes the one that ships with the package, fitted to kernels
            of hippocampus networks.

    Raises:
        CheckpointError: if the file is missing, unreadable, incomplete, or of another family.
        ConfigError: if a site's group or kernel shape is not in it.
    """

    def __init__(self, path: str | None = None) -> None:
        super().__init__(path, DeepWeightDensity.family, "hippocampus.safetensors")

    def encoders(self) -> dict[str, nn.Module]:
        """Return trainable copies of the autoencoders' encoders, the start of r(z|w)."""
        encoders = {group: copy.deepcopy(density.get_submodule("encoder")) for group, density in self.densities.items()}
        return {group: encoder.requires_grad_(True) for group, encoder in encoders.items()}
