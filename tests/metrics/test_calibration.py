"""Proper scores against torch's cross-entropy, sums by hand, and their defining property."""

import math
from fractions import Fraction

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pyro_dwp.errors import ConfigError, DataError
from pyro_dwp.metrics import brier_score, calibration_error, negative_log_likelihood


@pytest.fixture
def case() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 5, 6, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, 3, (4, 5, 6), generator=generator)


def test_negative_log_likelihood_is_the_cross_entropy_of_the_logits(case: tuple[Tensor, Tensor]) -> None:
    logits, truth = case
    expected = F.cross_entropy(logits[None], truth[None]).item()
    assert negative_log_likelihood(logits.softmax(0), truth) == pytest.approx(expected, rel=1e-12)


def test_brier_is_the_mean_squared_distance_to_the_one_hot_truth(case: tuple[Tensor, Tensor]) -> None:
    logits, truth = case
    target = F.one_hot(truth, 3).movedim(-1, 0).double()
    expected = (logits.softmax(0) - target).square().sum(0).mean().item()
    assert brier_score(logits.softmax(0), truth) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_a_uniform_guess_costs_log_classes_nats_and_one_minus_one_over_classes(classes: int) -> None:
    guess = torch.full((classes, 2, 2, 2), 1 / classes, dtype=torch.float64)
    truth = torch.ones(2, 2, 2, dtype=torch.int64)
    assert negative_log_likelihood(guess, truth) == pytest.approx(math.log(classes))
    assert brier_score(guess, truth) == pytest.approx(1 - 1 / classes)


@pytest.mark.parametrize(("metric", "worst"), [(negative_log_likelihood, -math.log(2**-23)), (brier_score, 2.0)])
def test_being_sure_costs_nothing_if_right_and_a_finite_price_if_wrong(metric, worst: float) -> None:
    sure = torch.stack([torch.ones(2, 2, 2), torch.zeros(2, 2, 2)])
    assert metric(sure, torch.zeros(2, 2, 2, dtype=torch.int64)) == 0
    assert metric(sure, torch.ones(2, 2, 2, dtype=torch.int64)) == pytest.approx(worst)


@pytest.mark.parametrize("metric", [negative_log_likelihood, brier_score])
def test_the_true_frequency_scores_better_than_any_other_constant(metric) -> None:
    truth = (torch.arange(1000) < 300).long().reshape(10, 10, 10)
    scores = {
        percent: metric(
            torch.tensor([1 - percent / 100, percent / 100]).reshape(2, 1, 1, 1).expand(2, 10, 10, 10), truth
        )
        for percent in range(5, 100, 5)
    }
    assert min(scores, key=scores.__getitem__) == 30


def test_the_calibration_error_is_the_mean_gap_between_probability_and_frequency() -> None:
    foreground = torch.tensor([0.1] * 10 + [0.9] * 30).reshape(1, 1, 40)
    truth = torch.tensor([1] * 4 + [0] * 6 + [1] * 30).reshape(1, 1, 40)
    found = calibration_error(torch.stack([1 - foreground, foreground]), truth)
    assert found == pytest.approx((10 * 0.3 + 30 * 0.1) / 40, rel=1e-5)


def test_the_calibration_error_of_draws_from_the_probabilities_vanishes_with_their_number() -> None:
    foreground = torch.rand(100, 100, 100)
    truth = (torch.rand(100, 100, 100) < foreground).long()
    assert calibration_error(torch.stack([1 - foreground, foreground]), truth) < 0.005  # a bin's error is about 0.002


@pytest.mark.parametrize("bins", [1, 4, 20])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_calibration_error_is_its_definition_voxel_by_voxel(
    classes: int, bins: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In exact arithmetic, over several chunks; probabilities are multiples of 1/64, so that many lie on an edge of a bin."""
    monkeypatch.setattr("pyro_dwp.metrics.calibration.CHUNK", 17)
    truth = torch.randint(0, classes, (6, 5, 7))
    parts = torch.randint(0, 32 // (classes - 1) * 2 + 1, (classes - 1, 6, 5, 7))
    probability = torch.cat([64 - parts.sum(0, keepdim=True), parts]) / 64
    errors = []
    for index in range(1, classes):
        gathered: list[list[Fraction]] = [[] for _ in range(bins)]
        for share, label in zip(parts[index - 1].flatten().tolist(), truth.flatten().tolist(), strict=True):
            upper = [Fraction(edge + 1, bins) for edge in range(bins - 1)]
            which = sum(Fraction(share, 64) >= edge for edge in upper)
            gathered[which].append(Fraction(share, 64) - (label == index))
        errors.append(sum(len(gaps) * abs(sum(gaps) / len(gaps)) for gaps in gathered if gaps) / truth.numel())
    expected = float(sum(errors) / len(errors))
    assert calibration_error(probability, truth, bins) == pytest.approx(expected, rel=1e-12)


def test_the_calibration_error_loses_no_small_probability_in_a_large_sum() -> None:
    """Half of float32's resolution at 4096 is 2⁻¹²: to a sum in float32 the 2²¹ probabilities of 2⁻¹³ add nothing."""
    large, small = torch.full((2**17,), 2.0**-5), torch.full((2**21,), 2.0**-13)
    foreground = torch.cat([large, small]).reshape(1, 1, -1)
    truth = torch.zeros(foreground.shape, dtype=torch.int64)
    truth[..., -(2**12 + 2**8) :] = 1  # as many as the probabilities' sum
    assert calibration_error(torch.stack([1 - foreground, foreground]), truth) == 0


def test_the_calibration_error_needs_a_bin() -> None:
    with pytest.raises(ConfigError, match="at least 1 bin, but bins is 0"):
        calibration_error(torch.full((2, 1, 1, 1), 0.5), torch.zeros(1, 1, 1, dtype=torch.int64), bins=0)


@pytest.mark.parametrize("metric", [negative_log_likelihood, brier_score, calibration_error])
def test_probabilities_on_another_grid_are_refused(metric) -> None:
    with pytest.raises(DataError, match="same grid"):
        metric(torch.full((2, 3, 3, 3), 0.5), torch.zeros(3, 3, 4, dtype=torch.int64))


@pytest.mark.parametrize("metric", [negative_log_likelihood, brier_score, calibration_error])
def test_a_label_without_a_probability_is_refused(metric) -> None:
    with pytest.raises(DataError, match="labels from 2 to 2"):
        metric(torch.full((2, 1, 1, 1), 0.5), torch.full((1, 1, 1), 2))
