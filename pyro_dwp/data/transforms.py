"""From a scan's own grid to the network's, and back.

    scan ── crop to the head ── resample ── normalise ──▶ prepared ── network ──▶ restore ──▶ scan's own grid

Axis letters: C channel, D H W voxels of the scan, d h w voxels of the network's grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.transforms import CropForeground, NormalizeIntensity, Resize
from torch import Tensor

from pyro_dwp.data.scan import Affine, Scan
from pyro_dwp.errors import ConfigError, DataError

STRONG = 2.0  # an axis that shrinks by this factor or more is averaged, because interpolation would skip voxels


@dataclass(frozen=True, eq=False)
class Prepared:
    """One case on the network's grid, and what is needed to bring a result back to the scan's own.

    Args:
        name: of the case.
        image: float32, (C, d, h, w).
        label: int64, (d, h, w), after the label map; None where there is no truth.
        affine: of the scan, voxel indices to mm, (4, 4).
        shape: of the scan, (D, H, W).
        box: first voxel and one past the last voxel, along each axis, of the crop that the grid covers.
    """

    name: str
    image: Tensor
    label: Tensor | None
    affine: Affine
    shape: tuple[int, int, int]
    box: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Preprocess:
    """Crop a scan to the head, resample it, and normalise each channel to mean 0 and variance 1 over the head.

    The head is where any channel differs from 0. Mean and variance are taken over its voxels on the network's grid
    and applied to every voxel, so that air stays darker than tissue. Labels are resampled class by class and each
    voxel takes the class with the largest share. Nothing is random, and nothing is reoriented.

    Args:
        grid: voxels along each axis that every case is resampled to; None keeps the scan's own, or follows `spacing`.
        spacing: distance between voxels, in mm along each axis, that every case is resampled to, up to the rounding of
            its extent to whole voxels; None where `grid` decides. Cases then differ in shape.
        crop_to_head: whether to cut away the air around the head before resampling.
        label_map: class of each stored label value; values that it does not name are errors, except 0, which stays
            background. None keeps the values.

    Raises:
        ConfigError: if both `grid` and `spacing` are given, or one has an edge that is not positive, or the map has a
            negative class.

    Example:
        >>> scan = Scan("a", torch.rand(1, 10, 12, 9) + 1, None, np.eye(4))
        >>> prepared = Preprocess(grid=(8, 8, 8)).apply(scan)
        >>> prepared.image.shape, Preprocess().restore(prepared.image, prepared).shape
        (torch.Size([1, 8, 8, 8]), torch.Size([1, 10, 12, 9]))
    """

    grid: tuple[int, int, int] | None = None
    spacing: tuple[float, float, float] | None = None
    crop_to_head: bool = True
    label_map: dict[int, int] | None = None

    def __post_init__(self) -> None:
        if self.grid is not None and self.spacing is not None:
            raise ConfigError(
                f"Cases are resampled to a grid or to a spacing, but both were given: grid={self.grid} voxels, "
                f"spacing={self.spacing} mm. Leave one out."
            )
        for name, edges in (("grid", self.grid), ("spacing", self.spacing)):
            if edges is not None and (len(edges) != 3 or min(edges) <= 0):
                raise ConfigError(f"A {name} has three positive edges, but {name} is {tuple(edges)}. Change it.")
        if self.label_map and min(self.label_map.values()) < 0:
            raise ConfigError(f"Classes are numbered from 0 on, but label_map is {self.label_map}. Change it.")

    def apply(self, scan: Scan) -> Prepared:
        """Bring a scan to the network's grid.

        Args:
            scan: image (C, D, H, W), label (D, H, W) or None.

        Returns:
            The prepared case; `image` is a plain tensor.

        Raises:
            DataError: if the image is 0 everywhere, or a label value is not in the map.
        """
        box = self._box(scan)
        inside = (slice(None), *(slice(start, stop) for start, stop in box))
        shape = self._grid_shape(scan, box)
        image = _normalise(_resample(scan.image[inside], shape))
        truth, label = self.mapped_label(scan), None
        if truth is not None:
            found = _values(truth)
            shares = torch.stack([truth[inside[1:]] == value for value in found]).float()
            label = torch.tensor(found)[_resample(shares, shape).argmax(0)]
        return Prepared(scan.name, image, label, scan.affine, scan.shape, box)

    def restore(self, volume: Tensor, prepared: Prepared, fill: float | Sequence[float] = 0.0) -> Tensor:
        """Bring a result on the network's grid back to the scan's own, by linear interpolation.

        Args:
            volume: for instance probabilities, (C, d, h, w).
            prepared: the case that it belongs to.
            fill: value outside the crop, for all channels or one for each.

        Returns:
            float32, (C, D, H, W).
        """
        values = torch.as_tensor(fill, dtype=torch.float32).expand(len(volume))
        restored = values[:, None, None, None].repeat(1, *prepared.shape)
        inside = (slice(None), *(slice(start, stop) for start, stop in prepared.box))
        restored[inside] = _interpolate(volume.float().cpu(), tuple(stop - start for start, stop in prepared.box))
        return restored

    def mapped_label(self, scan: Scan) -> Tensor | None:
        """Return the truth on the scan's own grid after the label map, int64 (D, H, W), or None.

        Raises:
            DataError: if a value is not in the map.
        """
        if scan.label is None or self.label_map is None:
            return scan.label
        classes = {0: 0, **self.label_map}
        found = _values(scan.label)
        strange = [value for value in found if value not in classes]
        if strange:
            raise DataError(
                f"The label of case {scan.name} has the values {found}, but label_map has no class for {strange}. "
                f"Legal values are {sorted(classes)}. Add these to label_map, or correct the label file."
            )
        lookup = torch.zeros(max(found) + 1, dtype=torch.int64)
        for value in found:
            lookup[value] = classes[value]
        return lookup[scan.label]

    def _box(self, scan: Scan) -> tuple[tuple[int, int], ...]:
        if not self.crop_to_head:
            return tuple((0, edge) for edge in scan.shape)
        start, stop = CropForeground(select_fn=_is_head).compute_bounding_box(scan.image)
        if min(stop - start) < 1:
            raise DataError(
                f"Case {scan.name} has no voxel other than 0, so there is no head to crop to. Leave the case out."
            )
        return tuple(zip(start.tolist(), stop.tolist(), strict=True))

    def _grid_shape(self, scan: Scan, box: tuple[tuple[int, int], ...]) -> tuple[int, ...]:
        extent = [stop - start for start, stop in box]
        if self.grid is not None:
            return tuple(self.grid)
        if self.spacing is not None:
            edges = zip(extent, scan.spacing, self.spacing, strict=True)
            return tuple(max(1, round(edge * old / new)) for edge, old, new in edges)
        return tuple(extent)


def check_labels(name: str, label: Tensor | None, classes: int) -> None:
    """Check that a mapped label has only classes that the network knows.

    Args:
        name: of the case.
        label: (…), any shape; None passes.
        classes: of the network, background included.

    Raises:
        DataError: if a value is not below `classes`.
    """
    if label is not None and int(label.max()) >= classes:
        raise DataError(
            f"The network has {classes} classes, 0 to {classes - 1}, but the label of case {name} has the values "
            f"{_values(label)}. Merge them by label_map, or give the network more classes."
        )


def _values(label: Tensor) -> list[int]:
    """Return the values that occur in a label; counting is ten times as fast as sorting."""
    return torch.bincount(label.flatten()).nonzero().flatten().tolist()


def _is_head(image: Tensor) -> Tensor:
    return image != 0


def _normalise(image: Tensor) -> Tensor:
    """Return a normalised copy; MONAI itself writes into what it is given."""
    head = _is_head(image).any(0)
    voxels = image[:, head]
    normalise = NormalizeIntensity(
        subtrahend=voxels.mean(1).tolist(), divisor=voxels.std(1, correction=0).tolist(), channel_wise=True
    )
    return torch.as_tensor(np.asarray(normalise(image.clone())))


def _resample(volume: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Resample (C, …) to (C, *shape), extent to extent: average axes that shrink a lot, interpolate the others."""
    averaged = tuple(new if old >= STRONG * new else old for old, new in zip(volume.shape[1:], shape, strict=True))
    return _interpolate(Resize(averaged, mode="area")(volume), shape)


def _interpolate(volume: Tensor, shape: tuple[int, ...]) -> Tensor:
    return torch.as_tensor(np.asarray(Resize(shape, mode="trilinear", align_corners=False)(volume)))
