r"""Elliptical densities of kernels, fitted by maximum likelihood in float64: Gaussian and Student t with a full scatter matrix.

    Gaussian   log N(w; m, S)   = −½ (d + log|S| + T log 2π),                      d = (w − m)ᵀ S⁻¹ (w − m)
    Student t  log t_ν(w; m, S) = log Γ((ν+T)/2) − log Γ(ν/2) − ½ (T log πν + log|S|) − ½ (ν + T) log(1 + d/ν)

`information` measures kernels with them, and the `empirical` prior consists of them.

Axis letters: n kernels, T entries of a flattened kernel.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_dwp.errors import DataError

FEWEST_PER_ENTRY = 2
EM_STEPS = 200
EM_TOLERANCE = 1e-6
DEGREES = (0.1, 1e4)
JITTER = 1e-9


@dataclass(frozen=True)
class Elliptical:
    """A density whose level sets are ellipsoids.

    Args:
        mean: m, (T,).
        factor: lower Cholesky factor of the scatter matrix S, (T, T).
        degrees: ν of a Student t; infinite for a Gaussian.
    """

    mean: Tensor
    factor: Tensor
    degrees: float = math.inf

    def distances(self, kernels: Tensor) -> Tensor:
        """Return squared Mahalanobis distances of kernels (n, T): (n,)."""
        return torch.linalg.solve_triangular(self.factor, (kernels - self.mean).T, upper=False).square().sum(0)

    def log_density(self, kernels: Tensor) -> Tensor:
        """Return the log density of kernels (n, T) in nats, exact: (n,)."""
        radial = radial_log_density(self.distances(kernels), self.degrees, len(self.mean))
        return radial - self.factor.diagonal().log().sum()


def flat_kernels(kernels: Tensor) -> Tensor:
    """Return kernels (n, K, ...) as float64 vectors (n, T) on the CPU.

    Raises:
        DataError: if there are fewer than two per entry, too few for a covariance.
    """
    flat = kernels.flatten(1).double().cpu()
    if len(flat) < (fewest := FEWEST_PER_ENTRY * flat.shape[1]):
        raise DataError(
            f"A covariance of {flat.shape[1]} entries needs at least {fewest} kernels, but there are only {len(flat)} to fit. "
            "Collect kernels of more networks, or hold out fewer."
        )
    return flat


def fit_gaussian(kernels: Tensor) -> Elliptical:
    """Return the Gaussian of the kernels' mean and covariance.

    Args:
        kernels: (n, T), float64.
    """
    mean = kernels.mean(0)
    return Elliptical(mean, cholesky((kernels - mean).T @ (kernels - mean) / len(kernels)))


def fit_student_t(kernels: Tensor) -> Elliptical:
    """Fit a multivariate Student t by parameter-expanded EM; ν maximises the likelihood itself.

    One step weighs each kernel by u = (ν + T) / (ν + d), d its squared Mahalanobis distance, takes weighted mean and
    scatter, then maximises the likelihood over ν, between 0.1 and 10,000 (practically a Gaussian). The scatter is divided by the
    sum of the weights and not by n, which reaches the same maximum in fewer steps (Liu, Rubin, Wu 1998).

    Args:
        kernels: (n, T), float64.

    References:
        Liu, Rubin 1995, ML estimation of the t distribution using EM and its extensions, ECM and ECME.
    """
    entries, before = kernels.shape[1], -math.inf
    fit = fit_gaussian(kernels)
    distances = fit.distances(kernels)
    degrees = _best_degrees(distances, entries)
    for _ in range(EM_STEPS):
        weight = ((degrees + entries) / (degrees + distances))[:, None]
        mean = (weight * kernels).sum(0) / weight.sum()
        fit = Elliptical(mean, cholesky((weight * (kernels - mean)).T @ (kernels - mean) / weight.sum()))
        distances = fit.distances(kernels)
        degrees = _best_degrees(distances, entries)
        reached = float(radial_log_density(distances, degrees, entries).mean() - fit.factor.diagonal().log().sum())
        if reached - before < EM_TOLERANCE:
            break
        before = reached
    return Elliptical(fit.mean, fit.factor, degrees)


def cholesky(covariance: Tensor) -> Tensor:
    """Return the Cholesky factor of (..., T, T), with a jitter far below any variance in case entries are exactly dependent."""
    jitter = JITTER * covariance.diagonal(dim1=-2, dim2=-1).mean(-1)
    eye = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
    return torch.linalg.cholesky(covariance + jitter[..., None, None] * eye)


def radial_log_density(distances: Tensor, degrees: float, entries: int) -> Tensor:
    """Return the log density in nats of a Student t with scatter matrix I, (n,).

    Args:
        distances: squared distances from the mean, (n,).
        degrees: ν; infinite for a Gaussian.
        entries: T.
    """
    if math.isinf(degrees):
        return -0.5 * (distances + entries * math.log(2 * math.pi))
    half = 0.5 * (degrees + entries)
    constant = math.lgamma(half) - math.lgamma(0.5 * degrees) - 0.5 * entries * math.log(math.pi * degrees)
    return constant - half * torch.log1p(distances / degrees)


def _best_degrees(distances: Tensor, entries: int) -> float:
    """Return the ν that maximises the likelihood, by golden-section search on log ν, to 0.1 %."""
    low, high = (math.log(bound) for bound in DEGREES)
    ratio = (math.sqrt(5) - 1) / 2
    while high - low > 1e-3:
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        left_value, right_value = (
            float(radial_log_density(distances, math.exp(x), entries).mean()) for x in (left, right)
        )
        low, high = (low, right) if left_value > right_value else (left, high)
    return math.exp(0.5 * (low + high))
