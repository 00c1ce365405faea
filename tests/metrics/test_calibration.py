"""Proper scores against torch's cross-entropy and sums by hand."""

import math
from fractions import Fraction

import pytest
import torch
from torch.nn import functional as F

from pyro_dwp.errors import ConfigError
from pyro_dwp.metrics import (
    Reliability,
    brier_score,
    calibration_error,
    calibration_error_boundary,
    negative_log_likelihood,
    tempered,
)
from tests.helpers.refusal import refuses


def test_the_scores_are_the_cross_entropy_and_the_squared_distance_to_the_one_hot_truth() -> None:
    logits, truth = torch.randn(3, 4, 5, 6, dtype=torch.float64), torch.randint(0, 3, (4, 5, 6))
    probability, target = logits.softmax(0), F.one_hot(truth, 3).movedim(-1, 0)
    expected = F.cross_entropy(logits[None], truth[None]).item()
    assert negative_log_likelihood(probability, truth) == pytest.approx(expected, rel=1e-12)
    expected = (probability - target).square().sum(0).mean().item()
    assert brier_score(probability, truth) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("metric", "worst"), [(negative_log_likelihood, -math.log(2**-23)), (brier_score, 2.0)])
def test_being_sure_costs_nothing_if_right_and_a_finite_price_if_wrong(metric, worst: float) -> None:
    sure = torch.stack([torch.ones(2, 2, 2), torch.zeros(2, 2, 2)])
    assert metric(sure, torch.zeros(2, 2, 2, dtype=torch.int64)) == 0
    assert metric(sure, torch.ones(2, 2, 2, dtype=torch.int64)) == pytest.approx(worst)


@pytest.mark.parametrize("bins", [1, 4, 20])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_calibration_error_is_its_definition_voxel_by_voxel(classes: int, bins: int, monkeypatch) -> None:
    """In exact arithmetic, over several chunks; probabilities are multiples of 1/64, so that many lie on an edge of a bin."""
    monkeypatch.setattr("pyro_dwp.metrics.calibration.CHUNK", 17)
    truth = torch.randint(0, classes, (6, 5, 7))
    parts = torch.randint(0, 32 // (classes - 1) * 2 + 1, (classes - 1, 6, 5, 7))
    probability = torch.cat([64 - parts.sum(0, keepdim=True), parts]) / 64
    errors = []
    for index in range(1, classes):
        gathered: list[list[Fraction]] = [[] for _ in range(bins)]
        for part, label in zip(parts[index - 1].flatten().tolist(), truth.flatten().tolist(), strict=True):
            share = Fraction(part, 64)
            gathered[min(int(share * bins), bins - 1)].append(share - (label == index))
        errors.append(sum(len(gaps) * abs(sum(gaps) / len(gaps)) for gaps in gathered if gaps) / truth.numel())
    expected = float(sum(errors) / len(errors))
    assert calibration_error(probability, truth, bins) == pytest.approx(expected, rel=1e-12)


def test_the_calibration_error_loses_no_small_probability_in_a_large_sum() -> None:
    """Half of float32's resolution at 4096 is 2⁻¹²: to a sum in float32 the 2²¹ probabilities of 2⁻¹³ add nothing."""
    large, small = torch.full((2**17,), 2.0**-5), torch.full((2**21,), 2.0**-13)
    foreground = torch.cat([large, small])
    truth = (torch.arange(len(foreground)) < 2**12 + 2**8).long().flip(0)  # as many as the probabilities' sum
    assert calibration_error(torch.stack([1 - foreground, foreground]), truth) == 0


def test_near_the_boundary_the_calibration_error_is_that_of_the_voxels_there() -> None:
    truth = torch.zeros(9, 8, 1, dtype=torch.int64)
    truth[3:6], truth[0, 0] = 1, 2
    probability = torch.rand(3, 9, 8, 1, generator=torch.Generator().manual_seed(0)).softmax(0)
    rows, corner = truth != truth, truth != truth
    rows[1:8] = corner[:3, 0] = corner[:2, :3] = True  # within 4 mm, of voxels of 2 mm by 1.5 mm
    binary = [torch.stack([1 - probability[i], probability[i]])[:, band] for i, band in ((1, rows), (2, corner))]
    labels = [(truth[band] == i).long() for i, band in ((1, rows), (2, corner))]
    expected = sum(map(calibration_error, binary, labels)) / 2
    assert calibration_error_boundary(probability, truth, (2.0, 1.5, 1.0), width=4.0) == pytest.approx(expected)
    assert calibration_error_boundary(probability, 0 * truth, (2.0, 1.5, 1.0)) is None


@pytest.mark.parametrize("metric", [negative_log_likelihood, brier_score, calibration_error])
def test_truths_without_a_probability_are_refused(metric) -> None:
    with refuses("same grid", "(3, 3, 4)"):
        metric(torch.full((2, 3, 3, 3), 0.5), torch.zeros(3, 3, 4, dtype=torch.int64))
    with refuses("labels from 2 to 2"):
        metric(torch.full((2, 1, 1, 1), 0.5), torch.full((1, 1, 1), 2))


@pytest.mark.parametrize("bins", [0, -1, 10**9, 1.5])
def test_the_number_of_bins_has_bounds(bins) -> None:
    with refuses("bins", error=ConfigError):
        calibration_error(torch.full((2, 1), 0.5), torch.tensor([0]), bins=bins)


def test_reliability_added_up_over_cases_is_that_of_all_their_voxels_and_its_error_the_calibration_error() -> None:
    probability, truth = torch.rand(5, 40, generator=torch.Generator().manual_seed(0)), torch.randint(0, 2, (5, 40))
    reliability = Reliability()
    for p, label in zip(probability, truth, strict=True):
        reliability.add(p, label == 1)
    assert reliability.error() == pytest.approx(calibration_error(torch.stack([1 - probability, probability]), truth))
    curve = reliability.to_dict()
    for p, frequency, voxels in zip(curve["probability"], curve["frequency"], curve["voxels"], strict=True):
        inside = (probability * 20).long() == int(p * 20)
        expected = [float(it[inside].double().mean()) for it in (probability, truth)]
        assert [p, frequency, voxels] == pytest.approx([*expected, int(inside.sum())])
    assert sum(curve["voxels"]) == 200


@pytest.mark.parametrize("temperature", [0.1, 0.7, 1.0, 3.0, 10.0])
def test_a_temperature_divides_the_logits_and_keeps_the_order_of_the_classes(temperature: float) -> None:
    logits = torch.randn(4, 3, 3, 3, dtype=torch.float64)
    found = tempered(logits.softmax(0), temperature)
    torch.testing.assert_close(found, (logits / temperature).softmax(0))
    assert torch.equal(found.argsort(0), logits.argsort(0))
    certain = torch.tensor([1.0, 0.0])
    assert torch.equal(tempered(certain, temperature), certain)
