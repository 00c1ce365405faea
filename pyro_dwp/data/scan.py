"""One case: an image of one or more sequences, its labels, and where its voxels lie in millimetres.

Axis letters: C channel (MRI sequence), D H W voxels, from left to right, back to front and foot to head.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

Affine = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Header:
    """How a NIfTI file stores its voxels, and where.

    Args:
        turn: nibabel's orientation of the stored axes, (3, 2).
        shape: voxels along the stored axes.
        affine: of the stored axes, voxel indices to mm, (4, 4).
        geometry: the fields that place the voxels, such as the sform and its code.
    """

    turn: npt.NDArray[np.float64]
    shape: tuple[int, ...]
    affine: Affine
    geometry: Mapping[str, npt.NDArray[np.generic]]


@dataclass(frozen=True, eq=False)
class Origin:
    """The files of a scan, in whose format and on whose grid its results are written.

    Args:
        images: one path for each file of the image; the folder, if it is a stack of PNG slices.
        label: path of the label; None where there is no truth.
        header: of the first image; None for PNG.
    """

    images: tuple[Path, ...]
    label: Path | None
    header: Header | None


@dataclass(frozen=True, eq=False)
class Scan:
    """One case on its own grid, with its axes as close to right, anterior, superior (RAS) as flips and permutations bring them.

    Args:
        name: of the case, unique within its source.
        image: float32, (C, D, H, W).
        label: int64, (D, H, W), as stored; None where there is no truth.
        affine: maps voxel indices (i, j, k, 1) to scanner coordinates in mm, (4, 4).
        origin: the files that it was read from; None if it was made in memory.

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
    origin: Origin | None = None

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

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel, in ml; exact for sheared axes, too."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000

    @property
    def label_place(self) -> str:
        """How errors name the label: its file, or the case."""
        return str(self.origin.label) if self.origin and self.origin.label else f"the label of case {self.name}"

    @property
    def image_place(self) -> str:
        """How errors name the image: its file, or the case."""
        return str(self.origin.images[0]) if self.origin else f"case {self.name}"
