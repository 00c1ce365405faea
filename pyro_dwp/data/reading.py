"""From the files of one case, of whatever format, to a scan: one grid, finite voxels, whole-number labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pyro_dwp.data.metaimage import load_metaimage
from pyro_dwp.data.nifti import load_nifti
from pyro_dwp.data.nrrd import load_nrrd
from pyro_dwp.data.paths import CONVERT, META, NRRD, OTHERS, is_png, png_slices
from pyro_dwp.data.png import load_png
from pyro_dwp.data.scan import Origin, Scan
from pyro_dwp.data.volume import Volume, check_same_grid
from pyro_dwp.errors import DataError
from pyro_dwp.metrics import label_values

ROUNDING = 1e-3  # by which a stored label may differ from a whole number, as a factor in the header makes it


def read_scan(name: str, images: Sequence[Path], label: Path | None = None, modalities: int | None = 1) -> Scan:
    """Read the image files of one case, and its label file, onto one grid in RAS orientation.

    Args:
        name: of the case.
        images: one file for each sequence, or one file that holds several: along its fourth axis, or as the colours of its
            pixels (PNG). A folder of PNG slices counts as a file.
        label: file of integers on the same grid; None where there is no truth.
        modalities: sequences that each file but PNG holds; 1 means that it must be a 3-D image, or a single slice; None takes
            what there is.

    Returns:
        The scan: image (C, D, H, W) with C = len(images) · modalities, label (D, H, W). Files of one case may store their axes
        in different orders.

    Raises:
        DataError: if a file is missing or cannot be read in full; if it has another number of axes; if a sequence has voxels
            that are not finite, or is constant; if `read_label` refuses the label; if shapes differ, or affines place a corner
            of the grid more than 5 % of a voxel apart.
    """
    first = load_volume(Path(images[0]), modalities)
    volumes = [first, *(load_volume(Path(path), modalities, like=first) for path in images[1:])]
    for volume in volumes:
        check_same_grid(first, volume)
        _check_image(volume)
    truth = None if label is None else read_label(Path(label), first)
    origin = Origin(tuple(volume.path for volume in volumes), label and Path(label), first.header)
    image = torch.from_numpy(np.concatenate([volume.voxels for volume in volumes]))
    return Scan(name, image, truth, first.affine, origin)


def load_volume(
    path: Path, sequences: int | None = 1, dtype: npt.DTypeLike | None = np.float32, like: Volume | None = None
) -> Volume:
    """Read one file of whatever format: see `load_nifti`, `load_metaimage`, `load_nrrd` and `load_png`.

    Args:
        path: of the file, or of a folder of PNG slices.
        sequences: N of a volume, None for any; a PNG image has as many channels as colours.
        dtype: of the voxels; None keeps the stored one, for labels.
        like: a volume of the same case, whose orientation other files follow.

    Raises:
        DataError: if the file cannot be used.
    """
    path = Path(path)
    if is_png(path) or png_slices(path):
        return load_png(path, label=dtype is None)
    if path.suffix.lower() in OTHERS:
        raise DataError(f"{path} has a format that cannot be read. {CONVERT}.")
    if path.name.endswith(META):
        return load_metaimage(path, sequences, dtype, like)
    if path.name.endswith(NRRD):
        return load_nrrd(path, sequences, dtype, like)
    return load_nifti(path, sequences, dtype, like)


def read_label(path: Path, like: Volume | None = None) -> Tensor:
    """Read one file's labels in RAS orientation.

    Args:
        path: of the file.
        like: a volume on whose grid they must lie; None where there is none.

    Returns:
        int64, (D, H, W).

    Raises:
        DataError: if the file cannot be read, holds a value that is not a non-negative whole number or more than 256 different
            values, or lies on another grid.
    """
    volume = load_volume(path, dtype=None, like=like)
    if like is not None:
        check_same_grid(like, volume)
    return whole_labels(volume.voxels[0], str(volume.path))


def whole_labels(stored: npt.NDArray[Any], where: str) -> Tensor:
    """Return labels as int64.

    Args:
        stored: real numbers of any type, (D, H, W).
        where: what stores them, named in errors.

    Raises:
        DataError: if a value is not a non-negative whole number up to rounding, or there are more than 256 different values.
    """
    whole = stored.dtype.kind != "f" or (
        np.isfinite(stored).all() and (abs(stored - np.rint(stored)) <= ROUNDING).all()
    )
    if not whole or stored.min() < -ROUNDING or stored.max() >= 2**53:  # int64 would hold them wrongly or not at all
        raise DataError(
            f"Labels are non-negative whole numbers, but {where} holds values from {np.nanmin(stored):g} to "
            f"{np.nanmax(stored):g}{'' if whole else ', not all whole'}. Export it as a label map, without interpolation."
        )
    labels = torch.from_numpy((np.rint(stored) if stored.dtype.kind == "f" else stored).astype(np.int64))
    label_values(labels, where)
    return labels


def _check_image(volume: Volume) -> None:
    broken = int(volume.voxels.size - np.isfinite(volume.voxels).sum())
    if broken:
        raise DataError(
            f"{volume.path} has {broken} of {volume.voxels.size} voxels that are not finite (NaN or infinite). "
            "Repair the image (for instance set them to 0), or leave the case out."
        )
    for number, channel in enumerate(volume.voxels):
        if channel.min() == channel.max():
            raise DataError(
                f"{volume.path} is constant: every voxel of sequence {number} is {channel.flat[0]:g}, so there is nothing to "
                "segment. Export the image again, or leave the case out."
            )
