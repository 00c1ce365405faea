r"""What kernels hold beyond noise: held-out nats per kernel over an isotropic Gaussian.

White noise is best described by one variance. Whatever a richer density gains on kernels that it was not fitted to is
structure that a prior can use. Three densities are fitted by maximum likelihood, in float64, on kernels flattened to
T entries:

- isotropic: N(0, v I), v the mean square of all entries;
- Gaussian: N(m, S), full covariance;
- Student t: t_ν(m, S), full scatter matrix, by EM with ν maximising the actual likelihood (ECME; Liu and Rubin 1995).

Differences are taken kernel by kernel, so a standard error is that of the paired difference. Fitting T(T+3)/2
parameters to n kernels costs about T(T+3)/(4n) nats per held-out kernel: noise gives a slightly negative number.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from pyro_dwp.kernels.bank import KernelBank, root_mean_square
from pyro_dwp.kernels.densities import FEWEST_PER_ENTRY, fit_gaussian, fit_student_t


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
        held_out: number of kernels that they were evaluated on.
        scale: root mean square of the fitted entries, in units of the weights.
        isotropic: log density under the isotropic Gaussian.
        gaussian: gain of the full-covariance Gaussian over it; NaN if there are too few kernels to fit one.
        student_t: gain of the Student t over the isotropic Gaussian; NaN likewise.
        degrees_of_freedom: ν of the Student t; at 10,000 it is practically a Gaussian.
        learned: gain of a learned prior over the isotropic Gaussian, where one is measured; if its density is not exact, the
            gain of a bound on it.
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
    learned: Estimate | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the measurement as JSON-able values; NaN becomes None."""
        return _without_nan(asdict(self))


def estimate(values: Tensor) -> Estimate:
    """Return mean and standard error of values, (n,); the error of a single value is NaN."""
    values = values.double()
    error = values.std() / math.sqrt(len(values)) if len(values) > 1 else torch.tensor(math.nan)
    return Estimate(float(values.mean()), float(error))


def isotropic_log_density(fitted: Tensor, held_out: Tensor) -> Tensor:
    """Return log N(w; 0, v I) in nats, (m,).

    Args:
        fitted: kernels that v is fitted to, (n, T).
        held_out: kernels w, (m, T).
    """
    variance = fitted.square().mean()
    entries = fitted.shape[1]
    return -0.5 * (held_out.square().sum(1) / variance + entries * (2 * math.pi * variance).log())


def gaussian_log_density(fitted: Tensor, held_out: Tensor) -> Tensor:
    """Return log N(w; m, S) in nats, (m,).

    Args:
        fitted: kernels that mean and covariance are fitted to, (n, T).
        held_out: kernels w, (m, T).
    """
    return fit_gaussian(fitted).log_density(held_out)


def student_t_log_density(fitted: Tensor, held_out: Tensor) -> tuple[Tensor, float]:
    """Return log t_ν(w; m, S) in nats, (m,), and ν.

    Args:
        fitted: kernels that the density is fitted to, (n, T).
        held_out: kernels w, (m, T).
    """
    fit = fit_student_t(fitted)
    return fit.log_density(held_out), fit.degrees


def measure(group: str, networks: int, fitted: Tensor, held_out: Tensor, learned: Tensor | None = None) -> Information:
    """Fit the three densities to one group's kernels and compare them on held-out ones.

    Args:
        group: its name.
        networks: number of source networks in the bank.
        fitted: kernels to fit, (n, K, ...) or (n, T).
        held_out: held-out kernels, (m, K, ...) or (m, T).
        learned: log density of each held-out kernel under a learned prior, or a bound on it, in nats, (m,), to compare.

    Returns:
        Gains over the isotropic Gaussian. Fewer than two fitted kernels per entry are too few for a covariance.
    """
    fitted, held_out = fitted.flatten(1).double().cpu(), held_out.flatten(1).double().cpu()
    isotropic = isotropic_log_density(fitted, held_out)
    gaussian = student_t = torch.full_like(isotropic, math.nan)
    degrees = math.nan
    if len(fitted) >= FEWEST_PER_ENTRY * fitted.shape[1]:
        gaussian = gaussian_log_density(fitted, held_out)
        student_t, degrees = student_t_log_density(fitted, held_out)
    return Information(
        group,
        networks,
        len(fitted),
        len(held_out),
        root_mean_square(fitted),
        estimate(isotropic),
        estimate(gaussian - isotropic),
        estimate(student_t - isotropic),
        degrees,
        None if learned is None else estimate(learned.double().cpu() - isotropic),
    )


def bank_information(bank: KernelBank, held_out: float = 0.2, seed: int = 0) -> list[Information]:
    """Measure every group of a bank.

    Args:
        bank: the kernels.
        held_out: share of the networks that is held out, see `KernelBank.split`.
        seed: decides which.
    """
    count = len(bank.networks)
    return [measure(group, count, *bank.split(group, held_out, seed)) for group in bank.groups]


def information_table(rows: Sequence[Information], bank: KernelBank | None = None, learned: str = "prior") -> str:
    """Return measurements as a text table, one line per group.

    Args:
        rows: one per group.
        bank: adds columns for its layers and the kernels left out.
        learned: name of the learned prior in the heading, where one was measured.
    """
    counted = ["layers", "left out"] if bank else []
    last = [f"{learned} - iso"] if any(row.learned for row in rows) else []
    heading = ["group", *counted, "fitted", "held out", "scale", "isotropic", "Gauss - iso", "Student t - iso", "ν"]
    lines = [heading + last]
    for row in rows:
        facts = bank.metadata if bank else {}
        layers = len(facts.get("layers", {}).get(row.group, []))
        left_out = facts.get("left_out", {}).get(row.group, 0)
        counts = [str(layers), str(left_out)] if bank else []
        numbers = [str(row.fitted), str(row.held_out), f"{row.scale:.4f}", f"{row.isotropic.mean:.2f}"]
        gains = [str(row.gaussian), str(row.student_t), f"{row.degrees_of_freedom:.3g}"]
        lines.append([row.group, *counts, *numbers, *gains, *([str(row.learned or "")] if last else [])])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
