"""The volume of a structure with an interval: from the posterior's samples, or calibrated on scans whose volume is known.

The posterior's interval is as wide as the volumes of its sampled networks differ. That is only what the weights leave open, and a
variational posterior is too narrow, so it covers too few of the true volumes. Split conformal prediction needs no model. With V
the true and V' the predicted volume of n scans that the network did not learn from, and residuals

    r = |log((V + v₀) / (V' + v₀))|,      v₀ = 0.1 ml, below which volumes hardly differ,

a further scan's residual has each of the n + 1 ranks among them with the same probability, if the scans are exchangeable. It
is at most the k-th smallest, r_k, with probability k / (n + 1) or more (exactly that without ties), and then

    (V' + v₀) exp(-r_k) - v₀  ≤  V  ≤  (V' + v₀) exp(r_k) - v₀.

The probability is over the n scans, too: given them, the coverage varies about its mean as Beta(k, n + 1 - k).

References:
    Vovk, Gammerman, Shafer 2005, Algorithmic Learning in a Random World.
    Angelopoulos, Bates 2023, Conformal Prediction: A Gentle Introduction.
"""

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

COVERAGE = 0.9
SMALL = 0.1  # ml, v₀


def interval(samples: Sequence[float] | Tensor, coverage: float = COVERAGE) -> tuple[float, float] | None:
    """Return the central interval of a posterior's samples that a further draw falls into with probability `coverage`.

    The ends are the sample quantiles at rank p (S + 1) of the S sorted samples, p = (1 ∓ coverage) / 2, interpolated between
    ranks and kept within the samples (Hyndman and Fan's type 6). A value exchangeable with the samples lies between the
    samples of rank r and S + 1 - r with probability (S + 1 - 2 r) / (S + 1), so at 90 % the interval has its nominal coverage
    from S = 19 on.

    Warning:
        With fewer samples it is their range, and a perfect posterior covers only (S - 1) / (S + 1) of the truths: 82 % with ten.

    Args:
        samples: S values.
        coverage: nominal, between 0 and 1.

    Returns:
        Lower and upper end; None for a single sample, which says nothing about a spread.

    References:
        Hyndman, Fan 1996, Sample Quantiles in Statistical Packages.

    Example:
        >>> interval(range(1, 20)), interval([3.0, 1.0, 2.0]), interval([1.0])
        ((1.0, 19.0), (1.0, 3.0), None)
    """
    values = np.asarray(samples, dtype=np.float64)
    if len(values) < 2:
        return None
    low, high = np.quantile(values, [(1 - coverage) / 2, (1 + coverage) / 2], method="weibull")
    return float(low), float(high)


def posterior_coverage(samples: int, coverage: float = COVERAGE) -> float:
    """Return the share of truths that `interval` covers if the posterior is perfect.

    Example:
        >>> posterior_coverage(3), posterior_coverage(100)
        (0.5, 0.9)
    """
    return min(coverage, (samples - 1) / (samples + 1))


def conformal_rank(scans: int, coverage: float = COVERAGE) -> int:
    """Return k, the rank of the residual that the interval is as wide as: the smallest whose coverage suffices, else the last.

    Its coverage is k / (n + 1): with fewer than nine scans, at most n / (n + 1), which is below 90 %.

    Args:
        scans: n, at least 1.
        coverage: that is wanted.

    Example:
        >>> [(n, conformal_rank(n), round(conformal_rank(n) / (n + 1), 2)) for n in (1, 5, 9, 10, 20)]
        [(1, 1, 0.5), (5, 5, 0.83), (9, 9, 0.9), (10, 10, 0.91), (20, 19, 0.9)]
    """
    return min(scans, math.ceil(round((scans + 1) * coverage, 9)))


def volume_residual(true: float, predicted: float) -> float:
    """Return |log((V + v₀) / (V' + v₀))| of a true and a predicted volume in ml.

    Example:
        >>> volume_residual(1.9, 0.9) == math.log(2)
        True
    """
    return abs(math.log((true + SMALL) / (predicted + SMALL)))


def conformal_interval(
    residuals: Sequence[float], predicted: float, coverage: float = COVERAGE
) -> tuple[float, float] | None:
    """Return an interval that covers the true volume of a further scan with probability `coverage`, or what n scans allow.

    Args:
        residuals: of n scans whose volume is known, see `volume_residual`.
        predicted: volume of the further scan, in ml.
        coverage: see `conformal_rank`.

    Returns:
        Lower and upper end in ml, not below 0; None without residuals.
    """
    if not residuals:
        return None
    factor = math.exp(sorted(residuals)[conformal_rank(len(residuals), coverage) - 1])
    return max(0.0, (predicted + SMALL) / factor - SMALL), (predicted + SMALL) * factor - SMALL
