"""Rank correlations and shares against scipy, and the coverage of their intervals."""

import numpy as np
import pytest
from scipy.stats import binomtest, spearmanr

from pyro_dwp.metrics import rank_correlation, share

generator = np.random.default_rng(0)


def a_run(scans: int, slope: float) -> dict[str, tuple[float, float]]:
    x = generator.normal(size=scans)
    y = slope * x + np.sqrt(1 - slope**2) * generator.normal(size=scans)
    return {f"scan_{number}": pair for number, pair in enumerate(zip(x.round(1).tolist(), y.tolist(), strict=True))}


def test_the_correlation_of_a_run_is_spearmans_and_of_several_their_mean():
    one, other = a_run(20, 0.5), {name: pair for name, pair in a_run(20, -0.9).items() if name > "scan_12"}
    expected = [spearmanr(*zip(*run.values(), strict=True)).statistic for run in (one, other)]
    assert rank_correlation([one])["rank_correlation"] == pytest.approx(expected[0])
    both = rank_correlation([one, other])
    assert both["rank_correlation"] == pytest.approx(sum(expected) / 2)
    assert both["cases"] == 20
    assert rank_correlation([one, other]) == both


def test_a_run_that_is_counted_twice_is_no_more_certain():
    run = a_run(15, 0.6)
    assert rank_correlation([run, run]) == pytest.approx(rank_correlation([run]))


@pytest.mark.parametrize("pairs", [[], [(1.0, 2.0)] * 2, [(1.0, 2.0), (1.0, 3.0), (1.0, 4.0)]])
def test_too_few_scans_or_equal_numbers_have_no_correlation(pairs):
    found = rank_correlation([{str(number): pair for number, pair in enumerate(pairs)}])
    assert found == {"rank_correlation": None, "low": None, "high": None, "cases": len(pairs)}


def test_the_interval_of_a_correlation_covers_it(monkeypatch):
    """100 runs of 40 scans: the standard error of the share is 0.02 at 95 %; a percentile interval covers a little less."""
    monkeypatch.setattr("pyro_dwp.metrics.validity.RESAMPLES", 100)
    truth = 6 / np.pi * np.arcsin(0.6 / 2)  # of normal variables with correlation 0.6
    found = [rank_correlation([a_run(40, 0.6)]) for _ in range(100)]
    assert np.mean([each["low"] <= truth <= each["high"] for each in found]) >= 0.88


@pytest.mark.parametrize(("hits", "scans"), [(0, 7), (3, 7), (7, 7)])
def test_the_share_has_clopper_and_pearsons_interval_and_runs_of_the_same_scans_do_not_narrow_it(hits, scans):
    run = {str(number): number < hits for number in range(scans)}
    expected = binomtest(hits, scans).proportion_ci(method="exact")
    for runs in ([run], [run, run, run]):
        found = share(runs)
        assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high))
        assert (found["coverage"], found["cases"]) == (pytest.approx(hits / scans), scans)
