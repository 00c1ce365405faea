"""Cases into one tensor.

Axis letters: B batch, C channel, d h w voxels of the network's grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

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
    """Stack labelled cases of one grid.

    Cases of different grids are not padded to fit: the padding would count as voxels, and the loss of a case would then
    depend on which others are in its batch.

    Args:
        prepared: B ≥ 1 cases with labels, equal channels and equal grids.

    Raises:
        DataError: if there is no case, one has no label, or grids differ.
    """
    if not prepared:
        raise DataError("A batch has at least one case, but there is none. Check the split and the batch size.")
    labels = []
    for case in prepared:
        if case.label is None:
            raise DataError(f"Case {case.name} has no label, which a batch needs. Name a folder of labels.")
        if case.image.shape != prepared[0].image.shape:
            raise DataError(
                f"The cases of a batch share a grid, but {prepared[0].name} has {tuple(prepared[0].image.shape[1:])} voxels and "
                f"{case.name} {tuple(case.image.shape[1:])}. Set preprocess.grid, or schedule.batch_size to 1."
            )
        labels.append(case.label)
    return Batch(
        torch.stack([case.image for case in prepared]), torch.stack(labels), tuple(case.name for case in prepared)
    )
