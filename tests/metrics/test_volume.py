"""Intervals of volumes: the coverage that repetition shows, and what few scans allow."""

import numpy as np
import pytest

from pyro_dwp.metrics import conformal_interval, conformal_rank, interval, posterior_coverage, volume_residual


@pytest.mark.parametrize(("samples", "coverage"), [(2, 1 / 3), (10, 9 / 11), (19, 0.9), (39, 0.9)])
def test_the_interval_of_few_samples_covers_what_its_docstring_says(samples, coverage):
    """20,000 repetitions: the standard error of a share is at most 0.0036."""
    draws = np.random.default_rng(0).gamma(2.0, size=(20_000, samples + 1))
    hits = [low <= row[0] <= high for row in draws for low, high in [interval(row[1:])]]
    assert np.mean(hits) == pytest.approx(coverage, abs=0.011)
    assert posterior_coverage(samples) == pytest.approx(coverage)


@pytest.mark.parametrize("scans", [1, 5, 9, 10, 30])
def test_a_conformal_interval_covers_what_it_promises_however_wrong_the_predictions_are(scans):
    """20,000 repetitions: the standard error of a share is at most 0.0036."""
    generator = np.random.default_rng(0)
    true = generator.gamma(2.0, 20.0, size=(20_000, scans + 1))
    predicted = true * generator.lognormal(0.7, 0.5, true.shape)  # twice too large, by a varying factor
    hits = []
    for volumes, found in zip(true.tolist(), predicted.tolist(), strict=True):
        low, high = conformal_interval(list(map(volume_residual, volumes[1:], found[1:])), found[0])
        hits.append(low <= volumes[0] <= high)
    assert np.mean(hits) == pytest.approx(conformal_rank(scans) / (scans + 1), abs=0.011)


def test_a_conformal_interval_holds_the_volumes_whose_residual_is_at_most_the_quantile():
    residuals = [0.1, 0.7, 0.3]
    low, high = conformal_interval(residuals, 2.0)
    assert [volume_residual(end, 2.0) for end in (low, high)] == pytest.approx([0.7, 0.7])
    assert conformal_interval(residuals, 0.0)[0] == 0
    assert conformal_interval([], 2.0) is None
