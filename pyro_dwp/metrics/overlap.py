"""Overlap of a predicted and a true segmentation, per foreground class, for one case.

Axis letters: C classes, D H W voxels.
"""

import torch
from monai.metrics import DiceHelper, compute_iou
from torch import Tensor

from pyro_dwp.errors import DataError


def check_pair(prediction: Tensor, truth: Tensor, classes: int) -> None:
    """Check that two label volumes share a grid and hold classes 0 to `classes` - 1 only.

    Raises:
        DataError: if the shapes differ, or a label is negative, or `classes` or above.
    """
    if prediction.shape != truth.shape:
        raise DataError(
            "A prediction and its truth lie on the same grid, but the prediction has shape "
            f"{tuple(prediction.shape)} and the truth {tuple(truth.shape)}. Resample one to the other's grid."
        )
    for role, labels in (("prediction", prediction), ("truth", truth)):
        if labels.numel() and not (int(labels.min()) >= 0 and int(labels.max()) < classes):
            raise DataError(
                f"With {classes} classes the labels are 0 to {classes - 1}, but the {role} holds labels from "
                f"{int(labels.min())} to {int(labels.max())}. Map its labels, or raise the number of classes."
            )


def dice(prediction: Tensor, truth: Tensor, classes: int) -> Tensor:
    """Return Dice's coefficient of each foreground class.

    Dice_c = 2 |P_c ∩ T_c| / (|P_c| + |T_c|), in [0, 1]. A class that is empty in both volumes scores 1: nothing was
    there and nothing was found. Empty in only one, it scores 0.

    Args:
        prediction: predicted classes, integers, (D, H, W) or (H, W).
        truth: true classes, same shape.
        classes: C, the background (0) included.

    Returns:
        Scores of classes 1 to C - 1, float64, (C - 1,).

    Raises:
        DataError: if the shapes differ or a label is outside 0 to C - 1.

    Example:
        >>> dice(torch.tensor([[0, 1, 1, 1]]), torch.tensor([[0, 0, 1, 1]]), classes=3).round(decimals=3).tolist()
        [0.8, 1.0]
    """
    check_pair(prediction, truth, classes)
    scorer = DiceHelper(
        include_background=False, ignore_empty=False, reduction="none", get_not_nans=False, num_classes=classes
    )
    return scorer(prediction[None, None], truth[None, None])[0].double()


def iou(prediction: Tensor, truth: Tensor, classes: int) -> Tensor:
    """Return the intersection over union (Jaccard's index) of each foreground class.

    IoU_c = |P_c ∩ T_c| / |P_c ∪ T_c| = Dice_c / (2 - Dice_c). A class that is empty in both volumes scores 1.

    Args:
        prediction: predicted classes, integers, (D, H, W) or (H, W).
        truth: true classes, same shape.
        classes: C, the background (0) included.

    Returns:
        Scores of classes 1 to C - 1, float64, (C - 1,).

    Raises:
        DataError: if the shapes differ or a label is outside 0 to C - 1.

    Example:
        >>> iou(torch.tensor([[0, 1, 1, 1]]), torch.tensor([[0, 0, 1, 1]]), classes=2).round(decimals=3).tolist()
        [0.667]
    """
    check_pair(prediction, truth, classes)
    masks = [torch.stack([labels == c for c in range(1, classes)])[None] for labels in (prediction, truth)]
    return compute_iou(*masks, ignore_empty=False)[0].double()
