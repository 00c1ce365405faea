"""Dice and IoU against sets of voxels."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pyro_dwp.errors import DataError
from pyro_dwp.metrics import dice, iou


def voxels(labels: Tensor, index: int) -> set[tuple[int, ...]]:
    return {tuple(position) for position in (labels == index).nonzero().tolist()}


def volumes(seed: int, classes: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    prediction, truth = torch.randint(0, classes, (2, 3, 4, 5), generator=generator)
    return prediction, truth


@pytest.mark.parametrize("classes", [2, 3, 5])
@given(seed=st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_dice_and_iou_are_the_ratios_of_voxel_sets(classes: int, seed: int) -> None:
    prediction, truth = volumes(seed, classes)
    for index in range(1, classes):
        p, t = voxels(prediction, index), voxels(truth, index)
        assert dice(prediction, truth, classes)[index - 1] == pytest.approx(2 * len(p & t) / (len(p) + len(t)))
        assert iou(prediction, truth, classes)[index - 1] == pytest.approx(len(p & t) / len(p | t))


def test_iou_is_a_function_of_dice() -> None:
    prediction, truth = volumes(0, 4)
    score = dice(prediction, truth, 4)
    torch.testing.assert_close(iou(prediction, truth, 4), score / (2 - score), rtol=1e-6, atol=0)


@pytest.mark.parametrize("metric", [dice, iou])
def test_a_score_is_symmetric_in_prediction_and_truth(metric) -> None:
    prediction, truth = volumes(1, 3)
    assert torch.equal(metric(prediction, truth, 3), metric(truth, prediction, 3))


@pytest.mark.parametrize("metric", [dice, iou])
def test_a_class_that_is_empty_in_both_scores_one_and_in_one_scores_zero(metric) -> None:
    empty, one = torch.zeros(2, 2, 2, dtype=torch.int64), torch.zeros(2, 2, 2, dtype=torch.int64)
    one[0, 0, 0] = 1
    assert metric(empty, empty, 2).tolist() == [1.0]
    assert metric(one, empty, 2).tolist() == [0.0]
    assert metric(empty, one, 2).tolist() == [0.0]


@pytest.mark.parametrize("metric", [dice, iou])
def test_slices_are_scored_as_volumes_are(metric) -> None:
    prediction, truth = volumes(2, 2)
    assert torch.equal(metric(prediction[0], truth[0], 2), metric(prediction[:1], truth[:1], 2))


@pytest.mark.parametrize("metric", [dice, iou])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_a_score_does_not_depend_on_the_integer_type(metric, dtype: torch.dtype) -> None:
    prediction, truth = volumes(3, 3)
    assert torch.equal(metric(prediction.to(dtype), truth.to(dtype), 3), metric(prediction, truth, 3))


@pytest.mark.parametrize("metric", [dice, iou])
def test_volumes_of_different_shapes_are_refused(metric) -> None:
    with pytest.raises(DataError, match=r"\(2, 3\).*\(2, 4\)"):
        metric(torch.zeros(2, 3), torch.zeros(2, 4), 2)


@pytest.mark.parametrize("metric", [dice, iou])
@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_outside_the_classes_is_refused(metric, label: int) -> None:
    with pytest.raises(DataError, match=f"truth.*{label}"):
        metric(torch.zeros(1, 2, dtype=torch.int64), torch.tensor([[label, 0]]), 2)
