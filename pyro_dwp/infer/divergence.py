"""KL(q ‖ p) of one sample site whose prior has a density: in closed form where there is one, else at the sample.

    KL(q ‖ p) = −H(q) − E_q log p(w)

Tried in this order:

1. a pair that torch knows, such as Gaussian–Gaussian or Gaussian–Laplace;
2. H(q) exact and, for a Gaussian prior with mean μ and precision P, the cross-entropy

       −E_q log p(w) = ½ [ tr(P Cov_q(w)) + (E_q w − μ)ᵀ P (E_q w − μ) − log det P + n log 2π ]

   for any q whose moments are known: means and variances suffice where the prior's weights are independent; for a prior
   over whole kernels q must be a Gaussian whose kernels are independent of each other (mean_field, kernel_covariance);
3. H(q) exact where the guide's distribution knows it, and log p at the sample: unbiased;
4. both at the sample: unbiased.
"""

import math

import torch
from pyro.distributions import Delta, MultivariateNormal, Normal, TorchDistribution
from pyro.distributions.util import scale_and_mask
from torch import Tensor
from torch.distributions import Independent, kl_divergence
from torch.nn import functional as F

from pyro_dwp.distributions import Reshaped

LOG_2_PI = math.log(2 * math.pi)


def unwrap(distribution: TorchDistribution) -> TorchDistribution:
    """Strip `Independent` wrappers."""
    while isinstance(distribution, Independent):
        distribution = distribution.base_dist
    return distribution


def gaussian_kl(q: Normal, p: Normal) -> Tensor:
    """Return KL(q ‖ p) of independent Gaussians in nats, (), as torch's `kl_divergence` does, with half its passes over them.

    Args:
        q: of any shape.
        p: of a shape that broadcasts to q's.

    Example:
        >>> gaussian_kl(Normal(torch.ones(3), torch.ones(3)), Normal(0.0, 1.0))
        tensor(1.5000)
    """
    ratio = q.scale / p.scale
    distance = F.mse_loss(q.loc / p.scale, (p.loc / p.scale).expand(q.loc.shape), reduction="sum")
    spread = F.mse_loss(ratio, torch.zeros_like(ratio), reduction="sum")
    return 0.5 * (distance + spread - ratio.numel()) - ratio.log().sum()


def gaussian_cross_entropy(q: TorchDistribution, p: TorchDistribution) -> Tensor | None:
    """Return −E_q log p(w) in nats, (), for a Gaussian prior; None where this module has no formula.

    Args:
        q: guide's distribution; batch shape (), event shape that of the weights.
        p: prior of the same shapes.

    Example:
        >>> p = Normal(torch.zeros(4), torch.ones(4)).to_event(1)
        >>> gaussian_cross_entropy(p, p)
        tensor(5.6758)
    """
    base, guide = unwrap(p), unwrap(q)
    if q.batch_shape or p.batch_shape or isinstance(guide, Delta):
        return None
    if isinstance(base, Normal):
        try:
            mean, variance = q.mean, q.variance
        except NotImplementedError:
            return None
        squares = ((mean - base.loc).square() + variance) / base.scale.square()
        return 0.5 * (squares + LOG_2_PI).sum() + base.scale.log().sum()
    if not isinstance(base, Reshaped) or not isinstance(base.base, MultivariateNormal):
        return None
    factor = shared_factor(base.base)
    spread = None if factor is None else whitened_spread(guide, factor)
    if factor is None or spread is None:
        return None
    offset = (q.mean.reshape(base.base.loc.shape) - base.base.loc).reshape(-1, len(factor))
    squares = torch.linalg.solve_triangular(factor, offset.T, upper=False).square().sum() + spread
    return 0.5 * (squares + offset.numel() * LOG_2_PI) + len(offset) * factor.diagonal().log().sum()


def shared_factor(kernels: MultivariateNormal) -> Tensor | None:
    """Return the Cholesky factor (T, T) that all kernels share; None where each has its own."""
    factor: Tensor = kernels._unbroadcasted_scale_tril  # as it was given; `scale_tril` repeats it for every kernel
    return factor.reshape(factor.shape[-2:]) if factor.shape[:-2].numel() == 1 else None


def whitened_spread(q: TorchDistribution, factor: Tensor) -> Tensor | None:
    """Return Σ_kernels tr(P Cov_q(w)), P = (L Lᵀ)⁻¹, for a Gaussian q with independent kernels; else None.

    Args:
        q: without `Independent`: a Normal over single weights, or a `Reshaped` one over kernels.
        factor: L, (T, T).
    """
    entries = len(factor)
    if isinstance(q, Normal):
        precision = torch.cholesky_inverse(factor)
        return (q.scale.square().reshape(-1, entries) @ precision.diagonal()).sum()
    base = q.base if isinstance(q, Reshaped) else None
    if not isinstance(base, MultivariateNormal) or base.event_shape != (entries,):
        return None
    shared = shared_factor(base)
    own = base.scale_tril.reshape(-1, entries, entries) if shared is None else shared[None]
    squares = torch.linalg.solve_triangular(factor, own, upper=False).square().sum()
    return squares * (base.batch_shape.numel() / len(own))


def site_log_prob(site: dict, value: Tensor) -> Tensor:
    """Return the sum of a site's log density in nats, under the site's scale and mask.

    Args:
        site: a node of a trace.
        value: point to evaluate it at, of the site's shape.
    """
    return scale_and_mask(site["fn"].log_prob(value), site["scale"], site["mask"]).sum()


def site_entropy(site: dict) -> Tensor:
    """Return H(q) of a guide site: exact where its distribution knows it, else −log q at the sample.

    A Delta without density counts as 0, which makes point guides maximum a posteriori estimates.
    """
    if not isinstance(unwrap(site["fn"]), Delta):
        try:
            return scale_and_mask(site["fn"].entropy(), site["scale"], site["mask"]).sum()
        except NotImplementedError:
            pass
    return -site_log_prob(site, site["value"])


def site_kl(site: dict, model_site: dict | None, closed_form: bool) -> Tensor:
    """Return KL(q ‖ p) in nats of a site whose prior has a density: closed form if wanted and known, else at the sample.

    Args:
        site: the guide's node.
        model_site: the model's node; None for auxiliary sites, which contribute −H(q) only.
        closed_form: False where model and guide sample in different orders, since conditional divergences do not add up then.
    """
    if model_site is None:
        return -site_entropy(site)
    if closed_form and not isinstance(unwrap(site["fn"]), Delta):
        q, p = unwrap(site["fn"]), unwrap(model_site["fn"])
        plates = site["fn"].batch_shape or model_site["fn"].batch_shape
        if isinstance(q, Normal) and isinstance(p, Normal) and not plates:
            return scale_and_mask(gaussian_kl(q, p), model_site["scale"], model_site["mask"])
        try:
            divergence = kl_divergence(site["fn"], model_site["fn"].expand(site["fn"].batch_shape))
            return scale_and_mask(divergence, model_site["scale"], model_site["mask"]).sum()
        except NotImplementedError:
            pass
        cross = gaussian_cross_entropy(site["fn"], model_site["fn"])
        if cross is not None:
            return scale_and_mask(cross, model_site["scale"], model_site["mask"]).sum() - site_entropy(site)
    return -site_entropy(site) - site_log_prob(model_site, site["value"])
