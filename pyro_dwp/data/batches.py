"""Stack cases into one batch.

Axis letters: B batch, C channel, d h w voxels of the network's grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_dwp.data.transforms import Prepared, on_device
from pyro_dwp.errors import DataError


@dataclass(frozen=True, eq=False)
class Batch:
    """Several cases on one grid.

    Args:
        image: float32, (B, C, d, h, w).
        label: int64, (B, d, h, w).
        names: of the B cases.
        weight: how many voxels each voxel of a patch stands for, (B, d, h, w); None where each stands for itself.
        voxels: of the whole case that each patch belongs to, float32, (B,); None where there are no patches.
    """

    image: Tensor
    label: Tensor
    names: tuple[str, ...]
    weight: Tensor | None = None
    voxels: Tensor | None = None

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch on a device."""
        weight, voxels = (None if it is None else on_device(it, device) for it in (self.weight, self.voxels))
        return Batch(on_device(self.image, device), on_device(self.label, device), self.names, weight, voxels)


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
    labels, weights = [], [case.weight for case in prepared if case.weight is not None]
    voxels = torch.tensor([float(case.voxels) for case in prepared if case.voxels is not None])
    for case in prepared:
        if case.label is None:
            raise DataError(f"Case {case.name} has no label, which a batch needs. Name a folder of labels.")
        if case.image.shape != prepared[0].image.shape:
            raise DataError(
                f"The cases of a batch share a grid, but {prepared[0].name} has {tuple(prepared[0].image.shape[1:])} voxels and "
                f"{case.name} {tuple(case.image.shape[1:])}. Set preprocess.grid, or schedule.batch_size to 1."
            )
        labels.append(case.label.long())
    images, names = torch.stack([case.image for case in prepared]), tuple(case.name for case in prepared)
    patches = (torch.stack(weights), voxels) if weights else (None, None)
    return Batch(images, torch.stack(labels), names, *patches)
