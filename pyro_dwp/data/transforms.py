"""From a scan's own grid to the network's, and back.

    scan ── crop to the head ── resample ── normalise ──▶ prepared ── network ──▶ restore ──▶ scan's own grid

Axis letters: C channel, D H W voxels of the scan, d h w voxels of the network's grid.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from pydantic import PositiveFloat
from torch import Tensor

from pyro_dwp.checks import checked_dataclass
from pyro_dwp.data.labels import check_labels, map_labels
from pyro_dwp.data.scan import Affine, Scan
from pyro_dwp.data.structures import Label, Structures, class_names, classes_of_structures
from pyro_dwp.errors import ConfigError, DataError
from pyro_dwp.metrics import bounding_box, label_values
from pyro_dwp.settings import InsteadOf

STRONG = 2.0  # an axis that shrinks by this factor or more is averaged, because interpolation would skip voxels
LONGEST, MOST = 4096, 2**28  # voxels of a grid: along an edge, in all
AIR, BODY = -900.0, -500.0  # Hounsfield units that only CT goes below, and that the body but for the lungs lies above

Edge = Annotated[int, Ge(1), Le(LONGEST)]
Class = Annotated[int, Ge(0), Le(255)]


@dataclass(frozen=True, eq=False)
class Prepared:
    """One case on the network's grid, and what is needed to bring a result back to the scan's own.

    Args:
        name: of the case.
        image: float32, (C, d, h, w).
        label: int64, or uint8 of a case in a file (`shelve`), (d, h, w), after the label map; None where there is no truth.
        affine: of the scan, voxel indices to mm, (4, 4).
        shape: of the scan, (D, H, W).
        box: first voxel and one past the last voxel, along each axis, of the crop that the grid covers.
        lost: classes of the truth that have no voxel on the network's grid.
        weight: how many voxels each voxel of a patch stands for, (d, h, w); None where each stands for itself.
        voxels: of the whole case, where this is a patch of it; None otherwise.
    """

    name: str
    image: Tensor
    label: Tensor | None
    affine: Affine
    shape: tuple[int, int, int]
    box: tuple[tuple[int, int], ...]
    lost: tuple[int, ...] = ()
    weight: Tensor | None = None
    voxels: int | None = None

    def to(self, device: torch.device | str) -> "Prepared":
        """Return the case with its volumes on a device."""
        label, weight = (None if it is None else on_device(it, device) for it in (self.label, self.weight))
        return replace(self, image=on_device(self.image, device), label=label, weight=weight)


@checked_dataclass
class Preprocess:
    """Crop a scan to the head, resample it, and normalise each channel to mean 0 and variance 1 over the head.

    The head is where any channel differs from 0; of CT, in Hounsfield units, it is the body, above -500. Mean and variance
    are taken over its voxels on the network's grid and applied to every voxel, so that air stays darker than tissue. Labels
    are resampled class by class and each voxel takes the class with the largest share. Nothing is random. Axes run from left
    to right, back to front and foot to head, see `Scan`; of an image, from left to right and from bottom to top, and the
    third has one voxel.

    Args:
        grid: voxels along each axis that every case is resampled to, such as [64, 48, 1] for images 64 wide and 48 high; None
            keeps the scan's own, or follows `spacing`.
        spacing: distance between voxels, in mm along each axis, that every case is resampled to, up to the rounding of its
            extent to whole voxels; None where `grid` decides. Cases then differ in shape.
        crop_to_head: whether to cut away the air around the head before resampling.
        label_map: class of each stored label value; a label that it does not name is an error, except 0, which stays the
            background. None keeps the values.
        structures: names of what is scored, and the stored labels that make each up, such as {whole: [1, 2, 4], core: [1, 4]};
            they may overlap. Names are made up of letters, digits, spaces, hyphens and underscores. None takes each class for
            one.

    Raises:
        ConfigError: if both `grid` and `spacing` are given, an edge is not positive or too large, or a class is out of range.

    Example:
        >>> import numpy as np
        >>> scan = Scan("a", torch.rand(1, 10, 12, 9) + 1, None, np.eye(4))
        >>> prepared = Preprocess(grid=(8, 8, 8)).apply(scan)
        >>> prepared.image.shape, Preprocess().restore(prepared.image, prepared).shape
        (torch.Size([1, 8, 8, 8]), torch.Size([1, 10, 12, 9]))
    """

    grid: tuple[Edge, Edge, Edge] | None = None
    spacing: Annotated[tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None, InsteadOf("grid")] = None
    crop_to_head: bool = True
    label_map: dict[Label, Class] | None = None
    structures: Structures | None = None

    def __post_init__(self) -> None:
        if self.grid is not None and self.spacing is not None:
            raise ConfigError(
                f"Cases are resampled to a grid or to a spacing, but both were given: grid={self.grid} voxels, "
                f"spacing={self.spacing} mm. Set one of them to null, such as --preprocess.grid null."
            )
        if self.grid is not None and math.prod(self.grid) > MOST:
            raise ConfigError(f"A grid has at most 2**28 voxels, but {self.grid} has more. Make it smaller.")
        if (self.label_map or {}).get(0, 0) != 0:
            raise ConfigError(f"0 is the background and stays class 0, but label_map is {self.label_map}. Change it.")

    def apply(self, scan: Scan, classes: int | None = None) -> Prepared:
        """Bring a scan to the network's grid.

        Args:
            scan: image (C, D, H, W), label (D, H, W) or None.
            classes: of the network, background included, which the label is checked against before it is resampled; None
                where there is no network yet.

        Returns:
            The prepared case; `image` is a plain tensor.

        Raises:
            DataError: if the image is 0 everywhere or cannot be normalised, or a label is not in the map or not a class.
        """
        truth = self.mapped_label(scan, classes)
        box = self.box(scan)
        inside = (slice(None), *(slice(start, stop) for start, stop in box))
        shape = self.grid_shape(scan, box)
        image = _normalise(_resample(scan.image[inside], shape))
        if not image.isfinite().all():
            raise DataError(f"{scan.image_place} overflows when it is normalised. Bring its intensities below 1e30.")
        if truth is None:
            return Prepared(scan.name, image, None, scan.affine, scan.shape, box)
        found = label_values(truth, scan.label_place)
        label = _resample_labels(truth[inside[1:]], found, shape)
        lost = tuple(value for value in found if value and value not in label_values(label))
        return Prepared(scan.name, image, label, scan.affine, scan.shape, box, lost)

    def restore(self, volume: Tensor, prepared: Prepared, fill: float | Sequence[float] = 0.0) -> Tensor:
        """Bring a result on the network's grid back to the scan's own, by linear interpolation.

        Args:
            volume: for instance probabilities, (C, d, h, w).
            prepared: the case that it belongs to.
            fill: value outside the crop, for all channels or one for each.

        Returns:
            float32, (C, D, H, W).
        """
        if volume.shape[1:] == prepared.shape == tuple(stop - start for start, stop in prepared.box):
            return volume.float().cpu()
        values = torch.as_tensor(fill, dtype=torch.float32).expand(len(volume))
        restored = values[:, None, None, None].repeat(1, *prepared.shape)
        inside = tuple(slice(start, stop) for start, stop in prepared.box)
        shape = tuple(stop - start for start, stop in prepared.box)
        for channel, result in zip(volume.float().cpu(), restored, strict=True):
            result[inside] = _interpolate(channel[None], shape)[0]
        return restored

    def mapped_label(self, scan: Scan, classes: int | None = None) -> Tensor | None:
        """Return the truth on the scan's own grid after the label map.

        Args:
            scan: with a label, or without.
            classes: of the network, background included; None checks nothing but the map.

        Returns:
            int64, (D, H, W), or None where there is no truth.

        Raises:
            DataError: if a label is not in the map, or not a class of the network.
        """
        if scan.label is None:
            return None
        mapped = map_labels(scan.label, self.label_map, scan.label_place)
        if classes is not None:
            check_labels(mapped, classes, scan.label_place)
        return mapped

    def classes_of_structures(self, classes: int) -> dict[str, tuple[int, ...]]:
        """Return name → classes of each structure, see `classes_of_structures`.

        Args:
            classes: of the network, background included.
        """
        return classes_of_structures(self.structures, self.label_map, classes)

    def class_names(self, classes: int) -> tuple[str, ...]:
        """Return what a legend calls each foreground class, see `class_names`.

        Args:
            classes: of the network, background included.
        """
        return class_names(self.structures, self.label_map, classes)

    def box(self, scan: Scan) -> tuple[tuple[int, int], ...]:
        """Return first voxel and one past the last voxel, along each axis, of the head, or of the scan if it is not cropped.

        Raises:
            DataError: if every voxel is 0.
        """
        if not self.crop_to_head:
            return tuple((0, edge) for edge in scan.shape)
        head = _is_head(scan.image).any(0)
        if not head.any():
            raise DataError(
                f"{scan.image_place} has no voxel other than 0, so there is no head to crop to. Leave the case out."
            )
        return tuple((part.start, part.stop) for part in bounding_box(head))

    def grid_shape(self, scan: Scan, box: tuple[tuple[int, int], ...]) -> tuple[int, ...]:
        """Return the voxels along each axis that a crop of a scan is resampled to.

        Args:
            scan: for its spacing.
            box: of the crop, as `box` returns it.

        Raises:
            DataError: if `spacing` makes an edge longer than 4096 or the grid larger than 2²⁸ voxels, or `grid` several slices of
                one.
        """
        extent = [stop - start for start, stop in box]
        if self.grid is not None:
            if scan.shape[2] == 1 < self.grid[2]:
                raise DataError(
                    f"An image cannot be resampled to several slices, but {scan.image_place} has the shape {scan.shape} and "
                    f"preprocess.grid is {self.grid}. Set preprocess.grid to [width, height, 1], and network.ndim to 2."
                )
            return tuple(self.grid)
        if self.spacing is None:
            return tuple(extent)
        edges = [
            edge * old / new if edge * old < new * (LONGEST + 0.5) else math.inf
            for edge, old, new in zip(extent, scan.spacing, self.spacing, strict=True)
        ]
        if math.inf in edges or math.prod(edges) > MOST:
            raise DataError(
                f"At a spacing of {self.spacing} mm, {scan.image_place} with {tuple(extent)} voxels of {scan.spacing} mm would "
                "have an edge longer than 4096 voxels, or more than 2**28 in all. Increase preprocess.spacing."
            )
        return tuple(max(1, round(edge)) for edge in edges)


def on_device(values: Tensor, device: torch.device | str) -> Tensor:
    """Return values on a device, where a GPU receives them after what it was asked to do before; nobody waits for it."""
    if torch.device(device).type == "cuda" and not values.is_cuda:
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


def _is_head(image: Tensor) -> Tensor:
    """Tell the voxels of (C, …) that are not air: in Hounsfield units air is -1000 and the body lies above, elsewhere it is 0."""
    lowest = torch.as_tensor(image).flatten(1).amin(1).reshape(-1, *[1] * (image.ndim - 1))
    return torch.where(lowest <= AIR, image > BODY, image != 0)


def _normalise(image: Tensor) -> Tensor:
    """Return a normalised copy, (C, …); a channel without variance is only shifted."""
    head, normal = _is_head(image).any(0), torch.empty_like(image)
    for channel, result in zip(image, normal, strict=True):
        voxels = channel[head]
        spread = float(voxels.std(correction=0))
        torch.sub(channel, float(voxels.mean()), out=result).div_(spread or 1.0)
    return normal


def _resample_labels(label: Tensor, values: Sequence[int], shape: tuple[int, ...]) -> Tensor:
    """Return the value with the largest share of each voxel of the new grid, the smaller of two equal ones."""
    if label.shape == shape:
        return label
    best, largest = torch.zeros(shape, dtype=torch.int64), torch.full(shape, -1.0)
    for value in values:
        share = _resample((label == value)[None].float(), shape)[0]
        best[share > largest] = value
        largest = torch.maximum(largest, share)
    return best


def _resample(volume: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Resample (C, …) to (C, *shape), extent to extent: average axes that shrink a lot, interpolate the others."""
    if volume.shape[1:] == shape:
        return volume
    averaged = tuple(new if old >= STRONG * new else old for old, new in zip(volume.shape[1:], shape, strict=True))
    return _interpolate(F.interpolate(volume[None], averaged, mode="area")[0], shape)


def _interpolate(volume: Tensor, shape: tuple[int, ...]) -> Tensor:
    return F.interpolate(volume[None], shape, mode="trilinear", align_corners=False)[0]
