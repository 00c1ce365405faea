"""Dice and IoU against sets of voxels."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pyro_dwp.metrics import dice, iou, label_values
from tests.helpers.refusal import refuses

METRICS = pytest.mark.parametrize("metric", [dice, iou])


def voxels(labels: Tensor, index: int) -> set[tuple[int, ...]]:
    return {tuple(position) for position in (labels == index).nonzero().tolist()}


def volumes(seed: int, labels: tuple[int, ...] = (0, 1, 2)) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.tensor(labels)[torch.randint(0, len(labels), (2, 3, 4, 5), generator=generator)]


@pytest.mark.parametrize("labels", [(0, 1), (0, 1, 2, 4), (0, 3, 70_000, 10**9)], ids=str)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_dice_and_iou_are_the_ratios_of_voxel_sets(labels: tuple[int, ...], seed: int) -> None:
    prediction, truth = volumes(seed, labels)
    dices, ious = dice(prediction, truth), iou(prediction, truth)
    assert list(dices) == list(ious) == list(labels[1:])
    for index in labels[1:]:
        p, t = voxels(prediction, index), voxels(truth, index)
        assert dices[index] == 2 * len(p & t) / (len(p) + len(t))  # to the last bit of float64
        assert ious[index] == len(p & t) / len(p | t)


@METRICS
def test_a_label_is_scored_if_it_occurs_in_either_volume(metric) -> None:
    empty = torch.zeros(2, 2, 2, dtype=torch.int64)
    one = empty.clone()
    one[0, 0, 0] = 4
    pairs = [(empty, empty), (one, empty), (empty, one), (one, one)]
    assert [metric(*pair) for pair in pairs] == [{}, {4: 0}, {4: 0}, {4: 1}]


@METRICS
def test_neither_order_nor_integer_type_nor_number_of_axes_matter(metric) -> None:
    prediction, truth = volumes(1)
    expected = metric(prediction, truth)
    assert metric(truth, prediction) == metric(prediction.reshape(12, 5), truth.reshape(12, 5)) == expected
    for dtype in (torch.uint8, torch.int16, torch.int32):
        assert metric(prediction.to(dtype), truth) == expected
    assert metric(prediction > 0, truth > 0) == metric((prediction > 0).long(), (truth > 0).long())


@METRICS
@pytest.mark.parametrize(
    ("truth", "tokens"),
    [
        (torch.zeros(2, 4).long(), ["(2, 3)", "(2, 4)"]),
        (torch.full((2, 3), -1), ["the truth", "-1"]),
        (torch.rand(2, 3), ["the truth", "float32"]),
    ],
)
def test_volumes_that_cannot_be_compared_are_refused(metric, truth, tokens) -> None:
    with refuses(*tokens):
        metric(torch.zeros(2, 3).long(), truth)


@pytest.mark.parametrize("values", [torch.arange(257), torch.arange(257) * 10**6], ids=["small", "large"])
def test_labels_are_counted_chunk_by_chunk_until_they_look_like_an_image(monkeypatch, values) -> None:
    monkeypatch.setattr("pyro_dwp.metrics.labels.CHUNK", 100)
    assert label_values(values[:256].flip(0)) == values[:256].tolist()
    assert label_values(values[:0]) == []
    with refuses("a.nii.gz", "256", "image"):
        label_values(values, "a.nii.gz")
