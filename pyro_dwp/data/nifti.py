"""Read NIfTI files into scans, and write volumes as NIfTI files; the only file that knows nibabel.

Axes stay in the order in which the file stores them: nothing is flipped or reoriented, so that what is predicted
on a scan can be written back with the scan's own affine.
"""

import os
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import torch
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError, SpatialImage
from nibabel.wrapstruct import WrapStructError
from torch import Tensor

from pyro_dwp.data.scan import Affine, Scan
from pyro_dwp.errors import DataError

EXTENSIONS = (".nii.gz", ".nii")
UNREADABLE = (OSError, EOFError, ValueError, zlib.error, ImageFileError, HeaderDataError, WrapStructError)
AFFINE_TOLERANCE = 0.05  # of the smallest voxel edge; files store affines as float32 or as rounded quaternions


def case_name(path: Path) -> str:
    """Return the name of a file without its folder and NIfTI extension.

    Example:
        >>> case_name(Path("imagesTr/case.1.nii.gz"))
        'case.1'
    """
    for extension in EXTENSIONS:
        if path.name.endswith(extension):
            return path.name[: -len(extension)]
    return path.name


def read_scan(name: str, images: Sequence[Path], label: Path | None = None, modalities: int = 1) -> Scan:
    """Read the image files of one case, and its label file, onto one grid.

    Args:
        name: of the case.
        images: one file for each sequence, or one file that holds several along its fourth axis.
        label: file of integers on the same grid; None where there is no truth.
        modalities: sequences that each image file holds; 1 means that it must be a 3-D image.

    Returns:
        The scan: image (C, D, H, W) with C = len(images) · modalities, label (D, H, W).

    Raises:
        DataError: if a file is missing or cannot be read in full; if it has another number of axes; if a sequence
            has voxels that are not finite, or is constant; if a label is not a whole number ≥ 0; if shapes differ, or
            affines place a corner of the grid more than 5 % of a voxel apart.
    """
    first, affine = read_array(Path(images[0]), modalities)
    channels = [_check_image(first, Path(images[0]))]
    for path in map(Path, images[1:]):
        array, other = read_array(path, modalities)
        _check_same_grid(Path(images[0]), first.shape[1:], affine, path, array.shape[1:], other)
        channels.append(_check_image(array, path))
    truth = None if label is None else read_label(Path(label), Path(images[0]), first.shape[1:], affine)
    return Scan(name, torch.from_numpy(np.concatenate(channels)), truth, affine)


def write_volume(path: Path, array: npt.ArrayLike | Tensor, affine: Affine, dtype: npt.DTypeLike = np.float32) -> Path:
    """Write one volume as a NIfTI file, all or nothing: a reader never finds half a file under this name.

    Args:
        path: file to write, ending in .nii.gz or .nii; its folder is made where it is missing.
        array: voxels, (D, H, W).
        affine: voxel indices to mm, (4, 4).
        dtype: in which the file stores the voxels, unscaled.

    Returns:
        The path.

    Raises:
        DataError: if the path has another extension, the array is not 3-D, or the file cannot be written.
    """
    path = Path(path)
    voxels = np.asarray(array.detach().cpu() if isinstance(array, Tensor) else array)
    extension = next((known for known in EXTENSIONS if path.name.endswith(known)), None)
    if extension is None:
        raise DataError(f"A NIfTI file's name ends in .nii.gz or .nii, but was to be {path}. Change its extension.")
    if voxels.ndim != 3:
        raise DataError(
            f"A volume has three axes (D, H, W), but {path} was to hold shape {voxels.shape}. Write one each."
        )
    image = nib.Nifti1Image(voxels.astype(dtype), affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    partial = path.with_name(f".{case_name(path)}.part{extension}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(image, partial)
        os.replace(partial, path)
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error}). Free some space, or choose another folder.") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    return path


def read_array(path: Path, modalities: int) -> tuple[npt.NDArray[np.float32], Affine]:
    """Return one file's voxels as (modalities, D, H, W), and its affine."""
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise DataError(f"A NIfTI file is needed, but {path} {found}. Check the path.")
    try:
        file = nib.load(path)
        if not isinstance(file, SpatialImage) or file.get_data_dtype().kind not in "biuf":
            raise ValueError(f"{type(file).__name__} of {file.header.get('datatype', 'unknown')} voxels")
        array = np.asarray(file.dataobj, dtype=np.float32)
    except UNREADABLE as error:
        raise DataError(
            f"{path} ({path.stat().st_size} bytes) cannot be read as a NIfTI volume of real numbers: {error}. It is "
            "truncated or of another format; copy or download it again."
        ) from error
    affine = np.asarray(file.affine, dtype=np.float64)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise DataError(
            f"The affine of {path} places all voxels in one plane or is not finite: {affine.tolist()}. "
            "Repair its header (sform, qform)."
        )
    return _channels_first(array, path, modalities), affine


def _channels_first(array: npt.NDArray[np.float32], path: Path, modalities: int) -> npt.NDArray[np.float32]:
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if modalities == 1 and array.ndim == 3:
        return array[None]
    if modalities > 1 and array.ndim == 4 and array.shape[3] == modalities:
        return np.ascontiguousarray(np.moveaxis(array, 3, 0))
    wanted = "three axes" if modalities == 1 else f"four axes, the last for its {modalities} modalities"
    raise DataError(
        f"An image here has {wanted}, but {path} has shape {array.shape}. Store each sequence as a file of its own"
        + (", or use the Decathlon layout with one entry in 'modality' for each." if modalities == 1 else ".")
    )


def _check_image(array: npt.NDArray[np.float32], path: Path) -> npt.NDArray[np.float32]:
    broken = int(array.size - np.isfinite(array).sum())
    if broken:
        raise DataError(
            f"{path} has {broken} of {array.size} voxels that are not finite (NaN or infinite). "
            "Repair the image (for instance set them to 0), or leave the case out."
        )
    for number, channel in enumerate(array):
        if channel.min() == channel.max():
            raise DataError(
                f"{path} is constant: every voxel of sequence {number} is {channel.flat[0]:g}, so there is nothing to "
                "segment. Export the image again, or leave the case out."
            )
    return array


def read_label(path: Path, image: Path, shape: tuple[int, ...], affine: Affine) -> Tensor:
    """Return one file's labels, int64 (D, H, W), which must lie on the grid of the image."""
    array, other = read_array(path, modalities=1)
    _check_same_grid(image, shape, affine, path, array.shape[1:], other)
    whole = array[0].astype(np.int64) if np.isfinite(array).all() else None
    if whole is None or whole.min() < 0 or not np.array_equal(whole, array[0]):
        raise DataError(
            f"Labels are whole numbers from 0 on, but {path} holds values from {array.min():g} to {array.max():g} "
            "that are not. Export it as a label map, without interpolation."
        )
    return torch.from_numpy(whole)


def _check_same_grid(
    path: Path, shape: tuple[int, ...], affine: Affine, other: Path, other_shape: tuple[int, ...], other_affine: Affine
) -> None:
    if shape != other_shape:
        raise DataError(
            f"Files of one case have one shape, but {path} is {shape} and {other} is {other_shape}. "
            "Resample one to the other's grid, or pair the right files."
        )
    corners = np.array(np.meshgrid(*[(0, edge - 1) for edge in shape], (1,))).reshape(4, -1)
    apart = float(np.linalg.norm((affine - other_affine) @ corners, axis=0).max())
    edge = float(np.linalg.norm(affine[:3, :3], axis=0).min())
    if apart > AFFINE_TOLERANCE * edge:
        raise DataError(
            f"Files of one case have one affine, but those of {path} and {other} place a corner of the grid "
            f"{apart:.3g} mm apart. Resample one to the other's grid, or copy the right header."
        )
