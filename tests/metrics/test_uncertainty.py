"""Uncertainty against numpy's correlation, ranks by hand, and the coverage that repetition shows."""

import numpy as np
import pytest
import torch

from pyro_dwp.metrics import interval, uncertainty_error_correlation, volume_scores


def test_the_correlation_is_pearsons_with_the_indicator_of_an_error():
    generator = torch.Generator().manual_seed(0)
    wrong = torch.rand(7, 6, 5, generator=generator) < 0.1
    uncertainty = torch.rand(7, 6, 5, generator=generator, dtype=torch.float64) + wrong
    expected = np.corrcoef(uncertainty.flatten(), wrong.flatten())[0, 1]
    assert uncertainty_error_correlation(uncertainty, wrong) == pytest.approx(expected, rel=1e-12)
    assert uncertainty_error_correlation(-uncertainty, wrong) == pytest.approx(-expected, rel=1e-12)


@pytest.mark.parametrize(
    ("uncertainty", "wrong"), [([0.1, 0.2], [0, 0]), ([0.1, 0.2], [1, 1]), ([0.3, 0.3], [0, 1]), ([0.1] * 3, [0, 1, 0])]
)
def test_what_never_varies_has_no_correlation(uncertainty, wrong):
    assert uncertainty_error_correlation(torch.tensor(uncertainty), torch.tensor(wrong).bool()) is None


@pytest.mark.parametrize(("samples", "coverage"), [(2, 1 / 3), (10, 9 / 11), (19, 0.9), (39, 0.9)])
def test_the_interval_of_few_samples_covers_what_its_docstring_says(samples, coverage):
    """20,000 repetitions: the standard error of a share is at most 0.0036."""
    draws = np.random.default_rng(0).gamma(2.0, size=(20_000, samples + 1))
    hits = [low <= row[0] <= high for row in draws for low, high in [interval(row[1:])]]
    assert np.mean(hits) == pytest.approx(coverage, abs=0.011)


def test_volumes_are_in_millilitres_and_one_sample_covers_nothing():
    truth = torch.zeros(10, 10, 10)
    truth[:5], truth[:2] = 1, 2
    samples = torch.tensor([300.0, 400.0, 700.0])
    expected = {"volume_ml": 1.5, "predicted_volume_ml": 1.4, "volume_covered": 1.0}
    assert volume_scores(samples, truth, 3.0) == pytest.approx(expected)
    assert volume_scores(samples + 201, truth, 3.0)["volume_covered"] == 0
    assert volume_scores(samples[:1], truth, 3.0)["volume_covered"] is None
