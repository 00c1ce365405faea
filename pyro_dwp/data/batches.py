"""Cases into one tensor.

Axis letters: B batch, C channel, d h w voxels of the network's grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pyro_dwp.data.layouts import CaseSource
from pyro_dwp.data.transforms import Prepared, Preprocess, check_labels
from pyro_dwp.errors import DataError


@dataclass(frozen=True, eq=False)
class Batch:
    """Several cases on one grid.

    Args:
        image: float32, (B, C, d, h, w).
        label: int64, (B, d, h, w).
        names: of the B cases.
    """

    image: Tensor
    label: Tensor
    names: tuple[str, ...]


def prepare(source: CaseSource, names: Sequence[str], preprocess: Preprocess, classes: int) -> list[Prepared]:
    """Load labelled cases and bring them to the network's grid.

    Args:
        source: of the cases.
        names: of those to load; the result has their order.
        preprocess: from a scan's grid to the network's.
        classes: of the network, background included.

    Raises:
        DataError: if a case has no label, a class that the network does not know, or another number of channels than
            the first one.
    """
    cases: list[Prepared] = []
    for name in names:
        case = preprocess.apply(source.load(name))
        if case.label is None:
            raise DataError(f"Case {name} has no label, which training and evaluation need. Name a folder of labels.")
        check_labels(name, case.label, classes)
        if cases and len(case.image) != len(cases[0].image):
            raise DataError(
                f"All cases have the same channels, but {cases[0].name} has {len(cases[0].image)} and {name} has "
                f"{len(case.image)}. Leave one kind out."
            )
        cases.append(case)
    return cases


def stack(prepared: Sequence[Prepared]) -> Batch:
    """Stack labelled cases; those that are smaller than the largest are padded at the end.

    Images are padded with their edge voxels, labels with background (0).

    Args:
        prepared: B ≥ 1 cases with labels and equal channels.

    Raises:
        DataError: if there is no case, or one has no label.
    """
    if not prepared:
        raise DataError("A batch has at least one case, but there is none. Check the split and the batch size.")
    grid = [max(edges) for edges in zip(*(case.image.shape[1:] for case in prepared), strict=True)]
    images, labels = [], []
    for case in prepared:
        if case.label is None:
            raise DataError(f"Case {case.name} has no label, which a batch needs. Name a folder of labels.")
        padding = [
            size for new, old in zip(reversed(grid), reversed(case.label.shape), strict=True) for size in (0, new - old)
        ]
        images.append(F.pad(case.image[None], padding, mode="replicate")[0] if any(padding) else case.image)
        labels.append(F.pad(case.label, padding))
    return Batch(torch.stack(images), torch.stack(labels), tuple(case.name for case in prepared))
