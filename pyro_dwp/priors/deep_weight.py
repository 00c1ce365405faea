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
from collections.abc import Mapping
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import constraints

from pyro_dwp.errors import ConfigError
from pyro_dwp.nn.kernel_coders import KernelCoders
from pyro_dwp.priors.base import PriorFamily
from pyro_dwp.priors.store import load_prior
from pyro_dwp.sites import WeightSite


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


class DeepWeight(PriorFamily):
    """Deep weight prior for every site, one decoder for each group of layers.

    Args:
        path: a prior saved by `run/train_prior.py`; None takes the one that ships with the package, fitted to kernels
            of hippocampus networks.

    Raises:
        CheckpointError: if the file is missing, unreadable or incomplete.
        ConfigError: if a site's group or kernel shape is not in it.
    """

    origin: Tensor

    def __init__(self, path: str | None = None) -> None:
        super().__init__()
        self.path = path
        self.stored = load_prior(path)
        self.coders = self.stored.coders.requires_grad_(False)
        self._layers: dict[str, list[str]] = self.stored.metadata.get("bank", {}).get("layers", {})
        self.register_buffer("origin", torch.zeros(()), persistent=False)

    def distribution(self, site: WeightSite) -> TorchDistribution:
        """Return the prior of one kernel of this site's group."""
        if site.group not in self.coders:
            raise ConfigError(
                f"Site {site.name!r} is in group {site.group!r} of kernels, but the prior {self.stored.path} was fitted for "
                f"groups {', '.join(self.coders)}. Fit a prior on networks of this architecture with run/train_prior.py."
            )
        if site.kernel_shape != self.stored.kernel_shape:
            raise ConfigError(
                f"Site {site.name!r} has kernels of shape {tuple(site.kernel_shape)}, but the prior {self.stored.path} was "
                f"fitted to kernels of shape {tuple(self.stored.kernel_shape)}. Fit one to such kernels with run/train_prior.py."
            )
        fitted = next((group for group, names in self._layers.items() if site.name in names), site.group)
        if fitted != site.group:
            raise ConfigError(
                f"Site {site.name!r} is in group {site.group!r}, but in the networks that {self.stored.path} was fitted "
                f"to it was in group {fitted!r}: they had another depth. Fit a prior on networks of this architecture with "
                "run/train_prior.py."
            )
        coder = self._coder(site.group)
        return DeepWeightPrior(coder.decoder, self.stored.latent, site.kernel_shape, site.group, self.origin)

    def encoders(self) -> dict[str, nn.Module]:
        """Return trainable copies of the autoencoders' encoders, the start of r(z|w)."""
        return {group: copy.deepcopy(self._coder(group).encoder).requires_grad_(True) for group in self.coders}

    def _coder(self, group: str) -> KernelCoders:
        coder = self.coders[group]
        assert isinstance(coder, KernelCoders)  # ModuleDict has forgotten it
        return coder
