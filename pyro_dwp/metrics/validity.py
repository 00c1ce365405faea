"""Whether an uncertainty keeps its promise on scans whose truth is known, for one run or several.

A run is a mapping from the name of a scan to what was found for it. Runs may share scans, such as those that learned from other
scans and were tested on the same ones. Their results on one scan are not independent, so that intervals count scans, not pairs of
scan and run.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np
import numpy.typing as npt

RESAMPLES = 1000
CONFIDENCE = 0.95
FEWEST = 3  # scans that have a rank correlation other than ±1

Numbers = npt.NDArray[np.float64]


def rank_correlation(runs: Sequence[Mapping[str, tuple[float, float]]], seed: int = 0) -> dict[str, float | int | None]:
    """Return Spearman's correlation over scans, the mean of that within each run, with a 95 % bootstrap interval over scans.

    Args:
        runs: each maps a scan to two numbers, such as the predicted and the true Dice.
        seed: of the bootstrap (percentiles of 1000 resamples).

    Returns:
        `rank_correlation`, `low`, `high`, and `cases`, the number of different scans. The first three are None where fewer than
        three scans, or numbers that are all equal, have no correlation.

    References:
        Efron, Tibshirani 1993, An Introduction to the Bootstrap.

    Example:
        >>> rank_correlation([{"a": (0.7, 0.6), "b": (0.8, 0.9), "c": (0.9, 0.8)}])["rank_correlation"]
        0.5
    """
    names = sorted({name for run in runs for name in run})
    tables = [np.array([run.get(name, (np.nan, np.nan)) for name in names]).reshape(-1, 2) for run in runs]
    found = _mean_spearman(tables)
    generator = np.random.default_rng(seed)
    draws = [generator.integers(len(names), size=len(names)) for _ in range(RESAMPLES if found is not None else 0)]
    again = [value for drawn in draws if (value := _mean_spearman([table[drawn] for table in tables])) is not None]
    tails = (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2
    low, high = map(float, np.quantile(again, tails)) if again else (None, None)
    return {"rank_correlation": found, "low": low, "high": high, "cases": len(names)}


def _mean_spearman(tables: Sequence[Numbers]) -> float | None:
    """Return the mean over tables (n, 2) of the correlation of ranks; rows with a NaN are left out; None if no table has one."""
    from scipy.stats import rankdata

    found = []
    for table in tables:
        known = table[~np.isnan(table).any(1)]
        if len(known) >= FEWEST and (np.ptp(known, axis=0) > 0).all():
            found.append(float(np.corrcoef(rankdata(known, axis=0).T)[0, 1]))
    return fmean(found) if found else None


def share(runs: Sequence[Mapping[str, bool]]) -> dict[str, float | int | None]:
    """Return the share of scans with a property, over all runs, with Clopper and Pearson's 95 % interval.

    With several runs the interval is that of as many scans as there are different ones with this share. It is exact if runs agree
    on each scan, and too wide if they do not.

    Args:
        runs: each maps a scan to whether it has the property, such as that an interval covers its volume.

    Returns:
        `coverage`, `low`, `high`, and the number of different scans, `cases`; None without any scan.

    References:
        Clopper, Pearson 1934, The Use of Confidence or Fiducial Limits Illustrated in the Case of the Binomial.

    Example:
        >>> share([{"a": True, "b": True}])
        {'coverage': 1.0, 'low': 0.158..., 'high': 1.0, 'cases': 2}
    """
    from scipy.stats import beta

    scans = len({name for run in runs for name in run})
    if not scans:
        return {"coverage": None, "low": None, "high": None, "cases": 0}
    found = fmean(float(value) for run in runs for value in run.values())
    hits, tail = found * scans, (1 - CONFIDENCE) / 2
    low = float(beta.ppf(tail, hits, scans - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, scans - hits)) if hits < scans else 1.0
    return {"coverage": found, "low": low, "high": high, "cases": scans}
