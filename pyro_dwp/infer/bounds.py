"""Bounds on the cross-entropy of a kernel under an implicit prior, as pure functions.

For p(w) = ∫ p(w|z) p(z) dz with p(z) = N(0, I), and any r(z|w), Jensen's inequality gives for M independent z_m ~ r(z|w)

    −log p(w) ≤ −E_z log (1/M) Σ_m p(w|z_m) p(z_m) / r(z_m|w).                                                  (1)

It falls with M towards −log p(w) (Burda et al. 2016). For M = 1 it splits into two terms, the first of which is exact
for Gaussians:

    −log p(w) ≤ KL(r(z|w) ‖ p(z)) − E_z log p(w|z),                                                              (2)

with gap KL(r(z|w) ‖ p(z|w)). With the exact entropy H(q) this bounds KL(q ‖ p) ≤ −H(q) + E_q(w)[ (1) or (2) ], which
is the bound of Kuzina et al. (2019, §2.3) for M = 1.

*Gradients.* Both bounds are differentiable in w, in the encoder's and in the decoder's parameters. For M > 1 the
plain reparametrised gradient for the encoder gets noisier as M grows (Rainforth et al. 2018). The doubly
reparametrised one (Tucker et al. 2018) has the same mean: with normalised weights v_m and λ the encoder's output,

    ∇_λ (1) = −Σ_m v_m² · ∂ log[p(w|z_m) p(z_m) / r(z_m|λ)] / ∂z_m · ∂z_m/∂λ,

so r's density is differentiated through z alone, and the gradient that flows back through z_m is multiplied by v_m once more.

Axis letters: N kernels, T entries of a flattened kernel, L latent, M importance samples. All values are in nats.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_dwp.distributions import gaussian_log_prob, kl_to_standard_normal

Encoder = Callable[[Tensor], tuple[Tensor, Tensor]]
LogProb = Callable[[Tensor, Tensor], Tensor]


class CrossEntropyBound(NamedTuple):
    """Upper bound on −log p(w), in nats per kernel, each (N,); `total` = `kl_latent` + `reconstruction`."""

    total: Tensor
    kl_latent: Tensor
    reconstruction: Tensor


def auxiliary_bound(kernels: Tensor, encoder: Encoder, log_prob: LogProb) -> CrossEntropyBound:
    """Return bound (2) with one draw of z per kernel; the KL term is exact, the reconstruction is random.

    Args:
        kernels: w, (N, T).
        encoder: w, (N, T) → mean and log standard deviation of r(z|w), each (N, L).
        log_prob: w, (N, T), and z, (..., N, L) → log p(w|z), (..., N); `conditional_log_prob` of an `ImplicitPrior`.

    Returns:
        The bound and its two terms, (N,).
    """
    mean, log_scale = encoder(kernels)
    z = mean + log_scale.exp() * torch.randn_like(mean)
    kl_latent = kl_to_standard_normal(mean, log_scale)
    reconstruction = -log_prob(kernels, z)
    return CrossEntropyBound(kl_latent + reconstruction, kl_latent, reconstruction)


def importance_bound(
    kernels: Tensor, encoder: Encoder, log_prob: LogProb, draws: int, doubly_reparametrised: bool = True
) -> CrossEntropyBound:
    """Return bound (1) with M draws of z per kernel.

    `kl_latent` is the exact KL(r(z|w) ‖ p(z)), for comparison with bound (2), and `reconstruction` is the rest of the
    total; neither carries a gradient.

    Args:
        kernels: w, (N, T).
        encoder: w, (N, T) → mean and log standard deviation of r(z|w), each (N, L).
        log_prob: w, (N, T), and z, (..., N, L) → log p(w|z), (..., N).
        draws: M.
        doubly_reparametrised: take Tucker's gradient for the encoder's output. Both gradients have the same mean; only the
            plain one is the derivative of the value for fixed noise.

    Returns:
        The bound and its two terms, (N,).

    References:
        Burda, Grosse, Salakhutdinov 2016, Importance Weighted Autoencoders.
        Tucker, Lawson, Gu, Maddison 2018, Doubly Reparameterized Gradient Estimators, arXiv:1810.04152.
    """
    mean, log_scale = encoder(kernels)
    z = mean + log_scale.exp() * torch.randn(draws, *mean.shape, dtype=mean.dtype, device=mean.device)  # (M, N, L)
    encoded = (mean.detach(), log_scale.detach()) if doubly_reparametrised else (mean, log_scale)
    log_weights = (
        log_prob(kernels, z)
        + gaussian_log_prob(z, torch.zeros_like(z), torch.zeros_like(z))
        - gaussian_log_prob(z, *encoded)
    )
    if doubly_reparametrised and z.requires_grad:
        normalised = log_weights.detach().softmax(0)
        z.register_hook(lambda gradient: gradient * normalised.unsqueeze(-1))
    total = math.log(draws) - log_weights.logsumexp(0)
    kl_latent = kl_to_standard_normal(mean, log_scale).detach()
    return CrossEntropyBound(total, kl_latent, total.detach() - kl_latent)


def cross_entropy_bound(
    kernels: Tensor, encoder: Encoder, log_prob: LogProb, draws: int = 1, doubly_reparametrised: bool = True
) -> CrossEntropyBound:
    """Return an upper bound on −log p(w) in nats per kernel: (2) for one draw of z, (1) for more.

    Args:
        kernels: w, (N, T).
        encoder: w, (N, T) → mean and log standard deviation of r(z|w), each (N, L).
        log_prob: w, (N, T), and z, (..., N, L) → log p(w|z), (..., N).
        draws: M, latent draws per kernel.
        doubly_reparametrised: see `importance_bound`; no effect for one draw.

    Returns:
        The bound and its two terms, (N,).
    """
    if draws == 1:
        return auxiliary_bound(kernels, encoder, log_prob)
    return importance_bound(kernels, encoder, log_prob, draws, doubly_reparametrised)


def scaled_subset(size: int, count: int | None, device: torch.device) -> tuple[Tensor | None, float]:
    """Choose `count` of `size` items without replacement; a sum over them times the factor is unbiased.

    Args:
        size: n, number of items.
        count: m, number to choose; None or at least n chooses all.
        device: where the indices live.

    Returns:
        Indices (m,), or None for all, and the factor n / m.

    Example:
        >>> indices, factor = scaled_subset(6, 3, torch.device("cpu"))
        >>> len(set(indices.tolist())), factor
        (3, 2.0)
    """
    if count is None or count >= size:
        return None, 1.0
    return torch.randperm(size, device=device)[:count], size / count
