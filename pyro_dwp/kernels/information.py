r"""What kernels hold beyond noise: held-out nats per kernel over an isotropic Gaussian.

White noise is described best by one variance. Whatever a richer density gains on kernels it was not fitted to is
structure that a prior can carry. Three densities are fitted by maximum likelihood, in float64, on kernels flattened to
T entries:

- isotropic: N(0, v I), v the mean square of all entries;
- Gaussian: N(m, S), full covariance;
- Student t: t_ν(m, S), full scatter matrix, by EM with ν maximising the actual likelihood (ECME; Liu and Rubin 1995).

A difference is taken kernel by kernel, so its standard error is that of the paired difference. Fitting T(T+3)/2
parameters to n kernels costs about T(T+3)/(4n) nats per held-out kernel: noise gives a slightly negative number.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from pyro_dwp.kernels.bank import KernelBank, root_mean_square

FEWEST_PER_ENTRY = 2
EM_STEPS = 200
EM_TOLERANCE = 1e-6
DEGREES = (0.1, 1e4)
JITTER = 1e-9


@dataclass(frozen=True)
class Estimate:
    """A mean over kernels and its standard error, in nats per kernel; the error treats kernels as independent."""

    mean: float
    error: float

    def __str__(self) -> str:
        return "too few" if math.isnan(self.mean) else f"{self.mean:+.2f} ± {self.error:.2f}"


@dataclass(frozen=True)
class Information:
    """What one group of kernels holds.

    Args:
        group: its name.
        networks: source networks in the bank; with two or more, whole networks were held out.
        fitted: number of kernels that the densities were fitted to.
        held_out: number of kernels that they were judged on.
        scale: root mean square of the fitted entries, in units of the weights.
        isotropic: log density under the isotropic Gaussian.
        gaussian: gain of the full-covariance Gaussian over it; NaN if there are too few kernels to fit one.
        student_t: gain of the Student t over the isotropic Gaussian; NaN likewise.
        degrees_of_freedom: ν of the Student t; at 10,000 it is a Gaussian.
        deep: gain of a kernel VAE's importance bound over the isotropic Gaussian, where there is one.
    """

    group: str
    networks: int
    fitted: int
    held_out: int
    scale: float
    isotropic: Estimate
    gaussian: Estimate
    student_t: Estimate
    degrees_of_freedom: float
    deep: Estimate | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the measurement as JSON-able values; a number that is NaN here is None there."""
        return _without_nan(asdict(self))


def estimate(values: Tensor) -> Estimate:
    """Return mean and standard error of values, (n,); the error of a single value is NaN."""
    values = values.double()
    error = values.std() / math.sqrt(len(values)) if len(values) > 1 else torch.tensor(math.nan)
    return Estimate(float(values.mean()), float(error))


def isotropic_log_density(fitted: Tensor, judged: Tensor) -> Tensor:
    """Return log N(w; 0, v I) of `judged` (m, T), v fitted to `fitted` (n, T); in nats, (m,)."""
    variance = fitted.square().mean()
    entries = fitted.shape[1]
    return -0.5 * (judged.square().sum(1) / variance + entries * (2 * math.pi * variance).log())


def gaussian_log_density(fitted: Tensor, judged: Tensor) -> Tensor:
    """Return log N(w; m, S) of `judged` (m, T), mean and covariance fitted to `fitted` (n, T); in nats, (m,)."""
    mean = fitted.mean(0)
    factor = _factor((fitted - mean).T @ (fitted - mean) / len(fitted))
    log_volume = 2 * factor.diagonal().log().sum() + fitted.shape[1] * math.log(2 * math.pi)
    return -0.5 * (_distances(judged, mean, factor) + log_volume)


def student_t_log_density(fitted: Tensor, judged: Tensor) -> tuple[Tensor, float]:
    """Fit a multivariate Student t by ECME and evaluate it.

    One step weighs each kernel by u = (ν + T) / (ν + d), d its squared Mahalanobis distance, takes weighted mean and
    scatter, then maximises the likelihood over ν.

    Args:
        fitted: (n, T).
        judged: (m, T).

    Returns:
        Log density of `judged`, in nats, (m,), and ν.

    References:
        Liu, Rubin 1995, ML estimation of the t distribution using EM and its extensions, ECM and ECME.
    """
    mean, entries = fitted.mean(0), fitted.shape[1]
    factor = _factor((fitted - mean).T @ (fitted - mean) / len(fitted))
    distances, before = _distances(fitted, mean, factor), -math.inf
    degrees = _best_degrees(distances, entries)
    for _ in range(EM_STEPS):
        weight = ((degrees + entries) / (degrees + distances))[:, None]
        mean = (weight * fitted).sum(0) / weight.sum()
        factor = _factor((weight * (fitted - mean)).T @ (fitted - mean) / weight.sum())
        distances = _distances(fitted, mean, factor)
        degrees = _best_degrees(distances, entries)
        reached = float(_student_t(distances, degrees, factor).mean())
        if reached - before < EM_TOLERANCE:
            break
        before = reached
    return _student_t(_distances(judged, mean, factor), degrees, factor), degrees


def measure(group: str, networks: int, fitted: Tensor, judged: Tensor, deep: Tensor | None = None) -> Information:
    """Fit the three densities to one group's kernels and compare them on held-out ones.

    Args:
        group: its name.
        networks: number of source networks in the bank.
        fitted: kernels to fit, (n, K, ...) or (n, T).
        judged: held-out kernels, (m, K, ...) or (m, T).
        deep: log density or bound of each held-out kernel under a kernel VAE, in nats, (m,), to compare as well.

    Returns:
        Gains over the isotropic Gaussian. Fewer than two fitted kernels per entry are too few for a covariance.
    """
    fitted, judged = fitted.flatten(1).double().cpu(), judged.flatten(1).double().cpu()
    isotropic = isotropic_log_density(fitted, judged)
    gaussian = student_t = torch.full_like(isotropic, math.nan)
    degrees = math.nan
    if len(fitted) >= FEWEST_PER_ENTRY * fitted.shape[1]:
        gaussian = gaussian_log_density(fitted, judged)
        student_t, degrees = student_t_log_density(fitted, judged)
    return Information(
        group,
        networks,
        len(fitted),
        len(judged),
        root_mean_square(fitted),
        estimate(isotropic),
        estimate(gaussian - isotropic),
        estimate(student_t - isotropic),
        degrees,
        None if deep is None else estimate(deep.double().cpu() - isotropic),
    )


def bank_information(bank: KernelBank, held_out: float = 0.2, seed: int = 0) -> list[Information]:
    """Measure every group of a bank; `held_out` and `seed` as in `KernelBank.split`."""
    count = len(bank.networks)
    return [measure(group, count, *bank.split(group, held_out, seed)) for group in bank.groups]


def information_table(rows: Sequence[Information], bank: KernelBank | None = None) -> str:
    """Return measurements as a text table, one line per group; a bank adds its layers and kernels left out."""
    counted = ["layers", "left out"] if bank else []
    deep = ["VAE - iso"] if any(row.deep for row in rows) else []
    heading = ["group", *counted, "fitted", "held out", "scale", "isotropic", "Gauss - iso", "Student t - iso", "ν"]
    lines = [heading + deep]
    for row in rows:
        facts = bank.metadata if bank else {}
        layers = len(facts.get("layers", {}).get(row.group, []))
        left_out = facts.get("left_out", {}).get(row.group, 0)
        counts = [str(layers), str(left_out)] if bank else []
        numbers = [str(row.fitted), str(row.held_out), f"{row.scale:.4f}", f"{row.isotropic.mean:.2f}"]
        gains = [str(row.gaussian), str(row.student_t), f"{row.degrees_of_freedom:.3g}"]
        lines.append([row.group, *counts, *numbers, *gains, *([str(row.deep or "")] if deep else [])])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def _factor(covariance: Tensor) -> Tensor:
    """Return the Cholesky factor; a jitter far below any variance carries exactly dependent entries."""
    jitter = JITTER * covariance.diagonal().mean()
    return torch.linalg.cholesky(covariance + jitter * torch.eye(len(covariance), dtype=covariance.dtype))


def _distances(kernels: Tensor, mean: Tensor, factor: Tensor) -> Tensor:
    """Return squared Mahalanobis distances, (n,)."""
    return torch.linalg.solve_triangular(factor, (kernels - mean).T, upper=False).square().sum(0)


def _student_t(distances: Tensor, degrees: float, factor: Tensor) -> Tensor:
    return _radial(distances, degrees, len(factor)) - factor.diagonal().log().sum()


def _radial(distances: Tensor, degrees: float, entries: int) -> Tensor:
    """Return the log density of a Student t with scatter matrix I at squared distances (n,)."""
    half = 0.5 * (degrees + entries)
    constant = math.lgamma(half) - math.lgamma(0.5 * degrees) - 0.5 * entries * math.log(math.pi * degrees)
    return constant - half * torch.log1p(distances / degrees)


def _best_degrees(distances: Tensor, entries: int) -> float:
    """Return the ν that maximises the likelihood, by golden-section search on log ν, to 0.1 %."""
    low, high = (math.log(bound) for bound in DEGREES)
    ratio = (math.sqrt(5) - 1) / 2
    while high - low > 1e-3:
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        left_value, right_value = (float(_radial(distances, math.exp(x), entries).mean()) for x in (left, right))
        low, high = (low, right) if left_value > right_value else (left, high)
    return math.exp(0.5 * (low + high))


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
