"""Differences between two methods, paired by case and split, with an interval over cases and trainings."""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, stdev

LEVEL = 0.95

Splits = Mapping[int, Mapping[str, float]]


@dataclass(frozen=True)
class Difference:
    """The mean difference of a score between two methods.

    Args:
        mean: over splits of the means over cases.
        splits: split → mean over its cases.
        standard_error: over cases and trainings; None for one split or one case.
        standard_error_over_cases: the first term alone; None for one case.
    """

    mean: float
    splits: Mapping[int, float]
    standard_error: float | None
    standard_error_over_cases: float | None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval by Student's t with S − 1 degrees of freedom for S splits; None where there is no standard error."""
        from scipy.special import stdtrit

        if self.standard_error is None:
            return None
        reach = float(stdtrit(len(self.splits) - 1, (1 + LEVEL) / 2)) * self.standard_error
        return self.mean - reach, self.mean + reach


def paired_difference(one: Splits, other: Splits) -> Difference | None:
    """Return the mean difference in a score between two methods, paired by case and split, with its standard error.

        d = 1/S Σ_s d_s,   d_s = 1/n_s Σ_i d_si,   standard error² = cases² + trainings²

        cases² = n / (n − 1) Σ_i [ Σ_s (d_si − d_s) / (S n_s) ]²,   trainings² = Σ_s (d_s − d)² / (S (S − 1))

    A case that several splits score counts as one of the n cases. `cases` estimates how much d would change with other cases,
    `trainings` how much with other training scans and seeds. Pairs that lack one side are left out.

    Warning:
        The two terms overlap, so the standard error is biased upwards. What a training does to one case and not to the others
        enters both. Where the splits score different cases, the variation between cases enters both as well. And an estimate
        from few splits is itself uncertain: with S = 3, Student's t has two degrees of freedom, and a 95 % interval is
        ± 4.3 standard errors. With one split nothing is known about other trainings. There is then no standard error;
        the one over cases alone would make intervals that are far too narrow.

    Args:
        one: split → case → score of a method, averaged over the seeds of the split.
        other: the same of the method to compare with.

    Returns:
        The difference; None if the two have no case of a split in common.

    Example:
        >>> difference = paired_difference({0: {"a": 0.6}, 1: {"a": 0.8}}, {0: {"a": 0.5}, 1: {"a": 0.5}})
        >>> round(difference.mean, 3), difference.standard_error
        (0.2, None)
    """
    shared = {
        s: {case: row[case] - other[s][case] for case in row if case in other[s]}
        for s, row in one.items()
        if s in other
    }
    pairs = {split: row for split, row in shared.items() if row}
    if not pairs:
        return None
    splits = {split: fmean(pair.values()) for split, pair in pairs.items()}
    shares: dict[str, float] = defaultdict(float)
    for split, pair in pairs.items():
        for case, difference in pair.items():
            shares[case] += (difference - splits[split]) / (len(pairs) * len(pair))
    cases, error, count = None, None, len(shares)
    if count > 1:
        cases = math.sqrt(count / (count - 1) * sum(share**2 for share in shares.values()))
        error = math.hypot(cases, stdev(splits.values()) / math.sqrt(len(splits))) if len(splits) > 1 else None
    return Difference(fmean(splits.values()), splits, error, cases)
