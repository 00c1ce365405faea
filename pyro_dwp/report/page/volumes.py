"""Volumes small enough to be embedded in a page. Axis letters: D H W voxels of the scan, d h w voxels of the page's volume.

    scan ── crop to the head ── average blocks ── 8 bits ──▶ NIfTI, compressed, base64

The crop and the blocks are for large scans only.
"""

import base64
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pyro_dwp.data import CaseSource, Preprocess, Scan, write_volume
from pyro_dwp.data.scan import Affine
from pyro_dwp.report.predictions import predicted_map, predicted_mask

MOST_VOXELS = 1_500_000  # of an embedded scan; with its maps it takes about 2 MB of the page
WINDOW = (0.005, 0.995)  # quantiles of a scan that are black and white
WHITE = 255


@dataclass(frozen=True, eq=False)
class Case:
    """A case to show, on its own grid.

    Args:
        scan: image (C, D, H, W), of which the first channel is shown.
        truth: classes, (D, H, W); None where there is no truth.
        mask: predicted classes; None where none was kept.
        doubt: uncertainty in nats; None where no map was kept.
        doubt_name: what it is.
    """

    scan: Scan
    truth: Tensor | None
    mask: Tensor | None
    doubt: Tensor | None
    doubt_name: str = ""


def read_case(predictions: Path, source: CaseSource, preprocess: Preprocess, classes: int, name: str) -> Case:
    """Read a case from its source, and what was predicted for it.

    Raises:
        DataError: if a file cannot be read.
    """
    scan = source.load(name)
    title, doubt = predicted_map(predictions, name, classes) or ("", None)
    return Case(scan, preprocess.mapped_label(scan), predicted_mask(predictions, name), doubt, title)


def embed(case: Case, classes: int) -> dict[str, Any]:
    """Return what the page's viewer needs of a case: volumes as base64, and how their voxels lie in the scan.

    Args:
        case: to show.
        classes: C, the background included; the uncertainty runs from 0 to ln C.

    Returns:
        JSON-able: "name"; "scan", "truth", "mask" and "doubt", base64 or None; "start", the scan's voxel where the volume begins,
        and "step", its voxels in one of the volume's, along each axis; "shape" (d, h, w); "full" (D, H, W); "focus", the voxel of
        the volume to look at first.
    """
    scan = case.scan
    start, stop = crop(scan)
    inside = tuple(slice(first, last) for first, last in zip(start, stop, strict=True))
    step = blocks([last - first for first, last in zip(start, stop, strict=True)], scan.spacing)
    affine = moved(scan.affine, start, step)
    image = average(scan.image[0][inside], step)
    labels = {
        name: None if volume is None else majority(volume[inside], step, classes)
        for name, volume in (("truth", case.truth), ("mask", case.mask))
    }
    doubt = None if case.doubt is None else average(case.doubt[inside], step) * (WHITE / math.log(classes))
    eight = {"scan": windowed(image), **labels, "doubt": doubt}
    packed = {name: None if volume is None else pack(volume, affine) for name, volume in eight.items()}
    where = {"start": start, "step": step, "shape": list(image.shape), "full": list(scan.shape)}
    return {"name": scan.name, **packed, **where, "focus": focus(image.shape, labels["truth"], labels["mask"])}


def crop(scan: Scan) -> tuple[list[int], list[int]]:
    """Return first voxel and one past the last voxel, along each axis, of what is shown: all, or the head of a large scan."""
    if math.prod(scan.shape) <= MOST_VOXELS:
        return [0, 0, 0], list(scan.shape)
    start, stop = zip(*Preprocess().box(scan), strict=True)
    return list(start), list(stop)


def blocks(shape: Sequence[int], spacing: Sequence[float], most: int = MOST_VOXELS) -> list[int]:
    """Return the edges of the blocks of voxels to average, so that few enough are left; the finest axis is coarsened first.

    Example:
        >>> blocks((240, 240, 155), (1.0, 1.0, 1.0)), blocks((320, 320, 24), (0.6, 0.6, 5.0), most=700_000)
        ([2, 2, 2], [2, 2, 1])
    """
    step = [1, 1, 1]
    while math.prod(-(-edge // block) for edge, block in zip(shape, step, strict=True)) > most:
        axis = min(
            range(3), key=lambda number: (shape[number] <= step[number], step[number] * spacing[number], -number)
        )
        step[axis] += 1
    return step


def average(volume: Tensor, step: Sequence[int]) -> Tensor:
    """Return the means over blocks of voxels, (d, h, w); blocks at the end may be smaller."""
    if max(step) == 1:
        return volume.float()
    pooled = F.avg_pool3d(volume.float()[None, None], tuple(step), ceil_mode=True, count_include_pad=False)
    return pooled[0, 0]


def majority(volume: Tensor, step: Sequence[int], classes: int) -> Tensor:
    """Return the class with the most voxels in each block, (d, h, w)."""
    if max(step) == 1:
        return volume
    return torch.stack([average(volume == number, step) for number in range(classes)]).argmax(0)


def windowed(image: Tensor) -> Tensor:
    """Return an image from 0 to 255 between its 0.5th and its 99.5th percentile."""
    low, high = np.quantile(image.numpy(), WINDOW)
    return ((image - low) / max(high - low, 1e-12)).clamp(0, 1) * WHITE


def moved(affine: Affine, start: Sequence[int], step: Sequence[int]) -> Affine:
    """Return the affine of blocks of voxels: their edges are longer, and the first centre lies within the first block."""
    change = np.diag([*step, 1]).astype(float)
    change[:3, 3] = np.array(start) + (np.array(step) - 1) / 2
    found: Affine = affine @ change
    return found


def pack(volume: Tensor, affine: Affine) -> str:
    """Return a volume of numbers from 0 to 255 as base64 of a compressed NIfTI file of 8 bits a voxel."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_volume(Path(folder) / "a.nii.gz", volume.round().clamp(0, WHITE), affine, np.uint8)
        return base64.b64encode(path.read_bytes()).decode()


def focus(shape: Sequence[int], *labels: Tensor | None) -> list[int]:
    """Return the voxel where the slices with the most foreground cross, of the first labels that have any; or the middle.

    Among slices with equally much, it is the middle one.
    """
    volume = next((volume for volume in labels if volume is not None and volume.any()), None)
    if volume is None:
        return [edge // 2 for edge in shape]
    counts = [(volume != 0).sum(dim=[other for other in range(3) if other != axis]) for axis in range(3)]
    fullest = [(count == count.max()).nonzero().flatten() for count in counts]
    return [int(places[len(places) // 2]) for places in fullest]
