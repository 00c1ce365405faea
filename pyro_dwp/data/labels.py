"""Label values of files and classes of networks: one mapped to the other, and checked before anything is resampled."""

from collections.abc import Mapping

import torch
from torch import Tensor

from pyro_dwp.checks import shorten
from pyro_dwp.errors import DataError
from pyro_dwp.metrics import label_values


def map_labels(labels: Tensor, label_map: Mapping[int, int] | None, where: str) -> Tensor:
    """Replace each label by its class.

    Args:
        labels: int64, any shape.
        label_map: label → class; 0 stays 0. None keeps the labels.
        where: what holds the labels, such as their file; named in errors.

    Raises:
        DataError: if a label is not in the map.

    Example:
        >>> map_labels(torch.tensor([0, 1, 4]), {1: 1, 4: 2}, "a.nii.gz").tolist()
        [0, 1, 2]
    """
    if label_map is None:
        return labels
    known = {0: 0, **label_map}
    found = label_values(labels, where)
    if unknown := [value for value in found if value not in known]:
        raise DataError(
            f"{where} holds the labels {shorten(found)}, but label_map has no class for {shorten(unknown)}. "
            f"It knows {sorted(known)}. Add the missing ones to label_map, or correct the label file."
        )
    mapped = torch.zeros_like(labels)
    for value in found:
        mapped[labels == value] = known[value]
    return mapped


def check_labels(labels: Tensor, classes: int, where: str) -> None:
    """Check that a label volume, after the label map, has only classes that the network knows.

    Args:
        labels: integers, any shape.
        classes: of the network, background included.
        where: what holds the labels, such as their file; named in errors.

    Raises:
        DataError: if a value is not below `classes`.
    """
    found = label_values(labels, where)
    if found and found[-1] >= classes:
        raise DataError(
            f"The network has {classes} classes, 0 to {classes - 1}, but {where} holds {shorten(found)}. Merge or renumber "
            "labels with label_map, or give the network more classes."
        )


def labels_of_classes(label_map: Mapping[int, int] | None, classes: int) -> list[int] | None:
    """Invert a label map.

    Args:
        label_map: label → class, in addition to 0 → 0; None is the identity.
        classes: of the network, background included.

    Returns:
        The stored label of each class; None if several labels were merged into one class, or a class has no label.

    Example:
        >>> labels_of_classes({1: 1, 2: 2, 4: 3}, classes=4), labels_of_classes({1: 1, 2: 1}, classes=2)
        ([0, 1, 2, 4], None)
    """
    if label_map is None:
        return list(range(classes))
    known = {0: 0, **label_map}
    inverse = {number: label for label, number in known.items()}
    if len(inverse) < len(known) or not set(range(classes)) <= inverse.keys():
        return None
    return [inverse[number] for number in range(classes)]
