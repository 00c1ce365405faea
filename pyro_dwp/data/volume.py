"""The voxels of one file, and whether two files lie on one grid. Axis letters: N sequence or colour, D H W voxels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pyro_dwp.data.scan import Affine, Header
from pyro_dwp.errors import DataError

SAME = 0.05  # of the smallest voxel edge; files store affines as float32 or as rounded quaternions


@dataclass(frozen=True, eq=False)
class Volume:
    """One file's voxels in RAS order; a single slice lies across the last axis.

    Args:
        path: of the file, or of the folder of a stack of PNG slices.
        voxels: (N, D, H, W).
        affine: of these voxels, (4, 4), mm.
        header: how a NIfTI file stores them; None for PNG.
    """

    path: Path
    voxels: npt.NDArray[Any]
    affine: Affine
    header: Header | None


def check_same_grid(first: Volume, other: Volume) -> None:
    """Check that two volumes of one case have the same shape, and affines that agree within 5 % of a voxel.

    Args:
        first: to compare with, usually the image.
        other: another sequence, a label or a mask.

    Raises:
        DataError: naming both files, if they do not.
    """
    shape, found = first.voxels.shape[1:], other.voxels.shape[1:]
    if shape != found:
        raise DataError(
            f"Files of one case have one shape, but {first.path} is {shape} and {other.path} is {found} (in RAS order). "
            "Resample one to the other's grid, or pair the right files."
        )
    if not same_place(shape, first.affine, other.affine):
        raise DataError(
            f"Files of one case have one affine, but those of {first.path} and {other.path} place a corner of the grid "
            f"{corner_distance(shape, first.affine, other.affine):.3g} mm apart. Resample one to the other's grid, or copy the "
            "right header."
        )


def same_place(shape: tuple[int, ...], first: Affine, second: Affine) -> bool:
    """Tell whether two affines place a grid's corners within 5 % of a voxel of each other.

    Args:
        shape: (D, H, W).
        first: (4, 4), mm.
        second: (4, 4), mm.
    """
    return corner_distance(shape, first, second) <= SAME * float(np.linalg.norm(first[:3, :3], axis=0).min())


def corner_distance(shape: tuple[int, ...], first: Affine, second: Affine) -> float:
    """Return the largest distance, in mm, between the places that two affines give to a corner of a grid.

    Args:
        shape: (D, H, W).
        first: (4, 4), mm.
        second: (4, 4), mm.
    """
    corners = np.array(np.meshgrid(*[(0, edge - 1) for edge in shape], (1,))).reshape(4, -1)
    return float(np.linalg.norm((first - second) @ corners, axis=0).max())
