"""Overlap of a predicted and a true segmentation of one case, label by label.

A label is scored if it occurs in the truth or in the prediction. One that occurs in neither has no score, so that naming more
labels than a case has does not raise its mean; the background (0) is never scored. Axis letters: D H W voxels.
"""

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from torch import Tensor

from pyro_dwp.errors import DataError
from pyro_dwp.metrics.labels import label_values


def dice(prediction: Tensor, truth: Tensor) -> dict[int, float]:
    """Return Dice's coefficient of each foreground label that occurs.

    Dice_l = 2 |P_l ∩ T_l| / (|P_l| + |T_l|), in [0, 1].

    Args:
        prediction: predicted labels, integers, (D, H, W) or (H, W).
        truth: true labels, same shape.

    Returns:
        Label → score, for the labels other than 0 in either volume.

    Raises:
        DataError: if the shapes differ, or a volume does not hold labels (`label_values`).

    Example:
        >>> import torch
        >>> dice(torch.tensor([[0, 1, 1, 1]]), torch.tensor([[0, 0, 1, 4]]))
        {1: 0.5, 4: 0.0}
    """
    return {label: 2 * both / (p + t) for label, (both, p, t) in _counts(prediction, truth).items()}


def iou(prediction: Tensor, truth: Tensor) -> dict[int, float]:
    """Return the intersection over union (Jaccard's index) of each foreground label that occurs.

    IoU_l = |P_l ∩ T_l| / |P_l ∪ T_l| = Dice_l / (2 - Dice_l), in [0, 1].

    Args:
        prediction: predicted labels, integers, (D, H, W) or (H, W).
        truth: true labels, same shape.

    Returns:
        Label → score, for the labels other than 0 in either volume.

    Raises:
        DataError: if the shapes differ, or a volume does not hold labels (`label_values`).

    Example:
        >>> import torch
        >>> iou(torch.tensor([[0, 1, 1, 1]]), torch.tensor([[0, 0, 1, 1]]))
        {1: 0.6666666666666666}
    """
    return {label: both / (p + t - both) for label, (both, p, t) in _counts(prediction, truth).items()}


def mean_score(scores: Mapping[Any, float]) -> float:
    """Return the mean over the labels or structures that occur; 1 if there are none: nothing was there, nothing was found.

    Example:
        >>> mean_score({1: 0.5, 4: 0.0}), mean_score({})
        (0.25, 1.0)
    """
    return fmean(scores.values()) if scores else 1.0


def _counts(prediction: Tensor, truth: Tensor) -> dict[int, tuple[int, int, int]]:
    """Return the voxels of each foreground label: in both volumes, in the prediction, in the truth."""
    if prediction.shape != truth.shape:
        raise DataError(
            "A prediction and its truth lie on the same grid, but the prediction has shape "
            f"{tuple(prediction.shape)} and the truth {tuple(truth.shape)}. Resample one to the other's grid."
        )
    found = {*label_values(prediction, "the prediction"), *label_values(truth, "the truth")} - {0}
    counts = {}
    for label in sorted(found):
        p, t = prediction == label, truth == label
        counts[label] = int((p & t).sum()), int(p.sum()), int(t.sum())
    return counts
