"""One case: an image of one or more sequences, its labels, and where its voxels lie in millimetres.

Axis letters: C channel (MRI sequence), D H W voxels in the order in which the file stores them.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

Affine = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scan:
    """One case on its own grid.

    Args:
        name: of the case, unique within its source.
        image: float32, (C, D, H, W).
        label: int64, (D, H, W), as stored; None where there is no truth.
        affine: maps voxel indices (i, j, k, 1) to scanner coordinates in mm, (4, 4).

    Example:
        >>> import torch
        >>> scan = Scan("a", torch.zeros(1, 4, 5, 6), None, np.diag([2.0, 3.0, 4.0, 1.0]))
        >>> scan.shape, scan.spacing
        ((4, 5, 6), (2.0, 3.0, 4.0))
    """

    name: str
    image: Tensor
    label: Tensor | None
    affine: Affine

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along each axis, (D, H, W)."""
        depth, height, width = self.image.shape[1:]
        return depth, height, width

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxels along each axis, in mm."""
        d, h, w = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return d, h, w
