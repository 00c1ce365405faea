"""Uncertainty against numpy's correlation, and predicted Dice against all truths that there can be."""

import itertools

import numpy as np
import pytest
import torch

from pyro_dwp.metrics import dice, predicted_dice, uncertainty_error_correlation


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


@pytest.mark.parametrize("probabilities", [(0.9, 0.6, 0.2, 0.1), (1.0, 0.5, 0.5, 0.0), (0.3, 0.3, 0.3, 0.3)])
def test_the_predicted_dice_is_the_ratio_of_expectations_over_every_truth_that_there_can_be(probabilities):
    """However voxels depend: here independent ones, and ones that are all drawn by one uniform number."""
    p, mask = np.array(probabilities), np.array(probabilities) > 0.25
    expected = predicted_dice(p[mask].sum(), p.sum(), mask.sum())
    truths = np.array(list(itertools.product([0, 1], repeat=4)))
    independent = np.prod(np.where(truths == 1, p, 1 - p), axis=1)
    cuts = np.unique([0, *p, 1])
    together, widths = np.array([p > cut for cut in cuts[:-1]]), np.diff(cuts)
    for worlds, weights in ((truths, independent), (together, widths)):
        overlap = 2 * (worlds * mask).sum(1) @ weights
        assert expected == pytest.approx(overlap / (weights @ (mask.sum() + worlds.sum(1))))


def test_the_predicted_dice_is_the_expected_one_if_the_truth_has_a_known_size():
    """One of four voxels, which one is open, against Dice of each of the four."""
    p, mask = torch.tensor([0.5, 0.25, 0.125, 0.125]), torch.tensor([True, True, False, False])
    dices = [dice(mask.long(), torch.eye(4, dtype=torch.int64)[voxel])[1] for voxel in range(4)]
    assert predicted_dice(0.75, 1.0, 2) == pytest.approx(float(p @ torch.tensor(dices)))
