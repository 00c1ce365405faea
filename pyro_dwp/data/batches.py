"""Stack cases into one batch.

Axis letters: B batch, C channel, d h w voxels of the network's grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_dwp.data.transforms import Prepared
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


def stack(prepared: Sequence[Prepared]) -> Batch:
    """Stack labelled cases of one grid.

    Cases of different grids are not padded to fit: the padding would count as voxels, and the loss of a case would then depend
    on which others are in its batch.

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
