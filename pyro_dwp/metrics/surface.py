"""Distances between surfaces, in millimetres. Axis letters: D H W voxels.

A surface voxel of a mask is one with a neighbour across a face outside the mask; beyond the edge of the grid is outside. Axes
with one voxel, as of a 2-D image that is stored as a volume, have no such neighbours. scipy is imported when it is used.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pyro_dwp.metrics.labels import label_values

SLAB = 2**22  # voxels whose distances are held at a time

Mask = npt.NDArray[np.bool_]


def hausdorff_95(prediction: Tensor, truth: Tensor, spacing: Sequence[float]) -> dict[int, float]:
    """Return the 95 % Hausdorff distance of each foreground label that occurs in the prediction and in the truth, in mm.

        HD95_l = max(q(P → T), q(T → P)),   q(A → B): 95 % quantile over A's surface voxels of the distance to B's surface

    Distances are between voxel centres and exact. The quantile is interpolated linearly, as by MONAI.

    Args:
        prediction: predicted labels, integers, (D, H, W).
        truth: true labels, same shape.
        spacing: distance between voxels along D, H, W, in mm.

    Raises:
        DataError: if a volume does not hold labels (`label_values`).

    Example:
        >>> line = torch.zeros(1, 1, 8, dtype=torch.int64)
        >>> line[..., 2] = 1
        >>> hausdorff_95(line, line.roll(3), (1.0, 1.0, 2.0))
        {1: 6.0}
    """
    found = sorted({*label_values(prediction)} & {*label_values(truth)} - {0})
    masks = {label: (prediction == label, truth == label) for label in found}
    return {label: _quantile_distance(*pair, spacing) for label, pair in masks.items()}


def boundary_band(mask: Tensor, spacing: Sequence[float], width: float) -> Tensor:
    """Return where the nearest voxel on the other side of a mask's boundary is at most `width` mm away.

    Args:
        mask: boolean, (D, H, W).
        spacing: distance between voxels along D, H, W, in mm.
        width: largest distance between voxel centres, in mm; the smallest spacing counts where it is larger, so that the band
            of large voxels is not empty.

    Returns:
        Boolean, (D, H, W); False everywhere if the mask holds all voxels or none.

    Example:
        >>> boundary_band(torch.tensor([[[False, False, False, True, True, True]]]), (1.0, 1.0, 1.0), 2.0).int()
        tensor([[[0, 1, 1, 1, 1, 0]]], dtype=torch.int32)
    """
    from scipy.ndimage import distance_transform_edt

    band = torch.zeros_like(mask)
    if not mask.any() or mask.all():
        return band
    limit = max(width, min(step for step, edge in zip(spacing, mask.shape, strict=True) if edge > 1))
    margin = [math.floor(limit / step) + 1 for step in spacing]
    inside = bounding_box(mask, margin)
    part, found = mask[inside].cpu().numpy(), band[inside]
    slab = max(margin[0], SLAB // part[0].size)
    for start in range(0, len(part), slab):  # what lies beyond the margin cannot be near enough
        above = max(0, start - margin[0])
        around = part[above : start + slab + margin[0]]
        if around.any() and not around.all():
            apart = [distance_transform_edt(side, sampling=spacing) for side in (around, ~around)]
            near = np.where(around, *apart) <= limit
            found[start : start + slab] = torch.from_numpy(near[start - above :][:slab]).to(mask.device)
    return band


def bounding_box(mask: Tensor, margin: Sequence[int] | None = None) -> tuple[slice, ...]:
    """Return the smallest box around a mask that is not empty, enlarged by a margin along each axis within the grid.

    Args:
        mask: boolean, any shape.
        margin: voxels along each axis; None adds none.
    """
    axes = range(mask.ndim)
    margin = margin or [0] * mask.ndim
    hit = [mask.any(dim=[other for other in axes if other != axis]).nonzero().flatten() for axis in axes]
    return tuple(slice(max(int(h[0]) - m, 0), int(h[-1]) + m + 1) for h, m in zip(hit, margin, strict=True))


def _quantile_distance(prediction: Tensor, truth: Tensor, spacing: Sequence[float]) -> float:
    from scipy.spatial import KDTree

    inside = bounding_box(prediction | truth)
    one, other = (_surface(mask[inside].cpu().numpy(), mask.shape) * spacing for mask in (prediction, truth))
    apart = [KDTree(to, leafsize=32).query(points)[0] for points, to in ((one, other), (other, one))]
    return max(float(np.quantile(distances, 0.95)) for distances in apart)


def _surface(mask: Mask, shape: Sequence[int]) -> npt.NDArray[np.int64]:
    """Return the indices of a mask's surface voxels, (n, 3); `shape` is that of the whole grid."""
    core = mask.copy()
    for axis in (axis for axis, edge in enumerate(shape) if edge > 1):
        shifted = np.moveaxis(mask, axis, 0)
        view = np.moveaxis(core, axis, 0)
        view[1:] &= shifted[:-1]
        view[:-1] &= shifted[1:]
        view[0] = view[-1] = False
    return np.argwhere(mask & ~core)
