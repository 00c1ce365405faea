"""NIfTI files: voxels and their place in mm. Only this module uses nibabel, which it imports when a file is opened (0.3 s).

Volumes are turned to one orientation as they are read: axes are permuted and flipped, never interpolated, so that they run as
closely as possible to right, anterior, superior (RAS). The exception is a single slice: it lies across the last axis, whichever
way it was cut. A result is turned back and written with the scan's own header, so it lies on the scan voxel by voxel in any
viewer, whichever of the two affines, qform or sform, that viewer uses.
"""

import gzip
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from pyro_dwp.data.paths import EXTENSIONS, readable
from pyro_dwp.data.scan import Affine, Header
from pyro_dwp.data.volume import Volume, corner_distance, same_place
from pyro_dwp.errors import DataError
from pyro_dwp.files import replacing

BEST_RATIO = 1032  # of deflate: a header cannot claim more bytes than this times the size of its file
MOST_VALUES = 2**30
LONGEST_HEADER = 540  # bytes, of NIfTI-2
RESERVED_FLAGS = 0xE0  # of a gzip header
MILLIMETRES = {1: 1000.0, 3: 0.001}  # by NIfTI's code of the unit: metres, micrometres; any other is taken as mm
GEOMETRY = (
    *("pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)


def load_nifti(
    path: Path, sequences: int = 1, dtype: npt.DTypeLike | None = np.float32, like: Volume | None = None
) -> Volume:
    """Read one file to its end and turn it to RAS.

    Args:
        path: of a .nii or .nii.gz file.
        sequences: N, stored along the fourth axis; 1 for a 3-D image or a single slice of two axes.
        dtype: of the voxels; None keeps the stored one where the header does not rescale it.
        like: a volume of the same case. On the same stored grid the axes are turned alike, even where rounding would decide
            between two equally close orientations.

    Raises:
        DataError: if the file is missing, unreadable, truncated or damaged, claims more voxels than it can hold or more than
            2³⁰, has another number of axes, or an affine that does not place its voxels.
    """
    from nibabel import orientations
    from nibabel.imageglobals import LoggingOutputSuppressor  # nibabel's remarks on headers do not name the file

    path = Path(path)
    try:
        with readable(path), np.errstate(all="ignore"), LoggingOutputSuppressor():
            if not path.is_file():
                found = "is a folder" if path.is_dir() else "does not exist"
                raise DataError(f"A NIfTI file is needed, but {path} {found}. Check the path.")
            image = _decode(path)
            array = np.asarray(image.dataobj, dtype=dtype)
            unit = MILLIMETRES.get(int(image.header["xyzt_units"]) & 7, 1.0)
            stored = np.diag([unit, unit, unit, 1.0]) @ np.asarray(image.affine, dtype=np.float64)
    except DataError:
        raise
    except Exception as error:  # a damaged header can make nibabel and numpy raise almost anything
        raise DataError(
            f"{path} cannot be read as a NIfTI volume of real numbers ({' '.join(str(error).split()) or repr(error)}). It is "
            "truncated, damaged or of another format; copy or download it again."
        ) from error
    edges = np.linalg.norm(stored[:3, :3], axis=0)
    if not np.isfinite(stored).all() or abs(np.linalg.det(stored[:3, :3])) <= 1e-6 * np.prod(edges):
        raise DataError(
            f"The affine of {path} places all voxels in one plane or is not finite: {stored.tolist()}. "
            "Repair its header (sform, qform)."
        )
    array = _four_axes(array, path, sequences)
    grid, shape, known = array.shape[:3], tuple(image.shape[:3]), like.header if like else None
    alike = known is not None and known.shape == shape and same_place(grid, known.affine, stored)
    turn = known.turn if known and alike else _turn(stored, grid)
    turned = np.ascontiguousarray(np.moveaxis(orientations.apply_orientation(array, turn), 3, 0))
    affine = stored @ orientations.inv_ornt_aff(turn, grid)
    geometry = {name: image.header[name].copy() for name in GEOMETRY}
    return Volume(path, turned, affine, Header(turn, shape, stored, geometry))


def _decode(path: Path) -> Any:
    """Return nibabel's image of a file read into memory in full, after checking gzip and the claimed size."""
    import nibabel as nib

    size, packed = path.stat().st_size, path.name.endswith(".gz")
    with path.open("rb") as file, gzip.GzipFile(fileobj=file) if packed else file as stream:
        if packed and any(byte & RESERVED_FLAGS for byte in file.read(4)[3:]):
            raise ValueError("reserved flags in its gzip header")
        file.seek(0)
        start = stream.read(LONGEST_HEADER)
        kinds = (nib.Nifti1Image, nib.Nifti2Image)
        kind = next((kind for kind in kinds if kind.header_class.may_contain_header(start)), None)
        if kind is None:
            raise ValueError("it has no NIfTI header")
        header = kind.header_class(start[: kind.header_class.sizeof_hdr])
        shape, voxel = header.get_data_shape(), header.get_data_dtype()
        if voxel.kind not in "biuf":
            raise ValueError(f"its voxels are {voxel}")
        if min(shape, default=0) < 1:
            raise ValueError(f"its header claims the shape {shape}")
        if math.prod(shape) > MOST_VALUES:
            raise DataError(
                f"{path} claims the shape {shape}, but at most 2**30 values can be read. Crop or resample it."
            )
        claimed = header.get_data_offset() + math.prod(shape) * voxel.itemsize
        if claimed > size * (BEST_RATIO if packed else 1):
            raise ValueError(f"its header claims the shape {shape}, more than a file of {size} bytes can hold")
        content = start + stream.read(max(0, claimed - len(start)))
        while stream.read(2**20):  # gzip compares length and checksum at the end
            pass
    return kind.from_bytes(content)


def _four_axes(array: npt.NDArray[Any], path: Path, sequences: int) -> npt.NDArray[Any]:
    """Return the stored voxels as (D, H, W, N); an image of two axes becomes one slice."""
    if array.ndim == 2:
        array = array[..., None]
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim == 3 and sequences == 1:
        return array[..., None]
    if array.ndim == 4 and array.shape[3] == sequences:
        return array
    if array.ndim == 4:
        cure = (
            f"Say that a file holds {array.shape[3]}: as 'channels' of folder_pairs, or as entries of 'modality' in the "
            "dataset.json of a Decathlon task."
        )
    elif array.ndim == 3:
        cure = "Join its sequences along a fourth axis, or store them as NAME_0000.nii.gz, NAME_0001.nii.gz, … (folder_pairs)."
    else:
        cure = "Export it as one image of two or three axes."
    raise DataError(f"{path} should hold {sequences} 3-D sequence(s), but has the shape {array.shape}. {cure}")


def _turn(affine: Affine, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Return nibabel's orientation that turns stored axes to RAS, except that the axis of a single slice becomes the last."""
    from nibabel import orientations

    turn = np.asarray(orientations.io_orientation(affine))
    if shape.count(1) == 1:
        single = shape.index(1)
        turn[turn[:, 0] > turn[single, 0], 0] -= 1
        turn[single, 0] = 2
    return turn


def write_volume(
    path: Path,
    array: npt.ArrayLike | Tensor,
    affine: Affine,
    dtype: npt.DTypeLike = np.float32,
    header: Header | None = None,
) -> Path:
    """Write one volume as a NIfTI file, whole or not at all.

    Args:
        path: file to write, ending in .nii.gz or .nii; its folder is made if it is missing.
        array: voxels, (D, H, W).
        affine: of these voxels, indices to mm, (4, 4).
        dtype: in which the file stores the voxels, unscaled.
        header: of the scan that the volume belongs to: the file gets its axes, its affines and their codes. None writes the
            volume as it is, with an sform and, unless the axes are sheared, an equal qform.

    Returns:
        The path.

    Raises:
        DataError: if the path has another extension, the array is not 3-D, or the file cannot be written.
    """
    import nibabel as nib
    from nibabel import orientations

    path = Path(path)
    voxels = np.asarray(array.detach().cpu() if isinstance(array, Tensor) else array).astype(dtype)
    if not path.name.endswith(EXTENSIONS):
        raise DataError(f"A NIfTI file's name ends in .nii.gz or .nii, but the path is {path}. Change its extension.")
    if voxels.ndim != 3:
        raise DataError(
            f"A volume has three axes (D, H, W), but the one for {path} has shape {voxels.shape}. Write one file for each."
        )
    if header is None:
        image = nib.Nifti1Image(voxels, affine)
        image.header.set_xyzt_units("mm")
        image.set_sform(affine, code="scanner")
        image.set_qform(affine, code="scanner")
        apart = corner_distance(voxels.shape, affine, image.get_qform())
        if apart > 0.01 * np.linalg.norm(affine[:3, :3], axis=0).min():  # a qform cannot express a shear
            image.set_qform(None, code="unknown")
    else:
        back = orientations.ornt_transform([[0, 1], [1, 1], [2, 1]], header.turn)
        fields = nib.Nifti1Header()
        fields.set_data_dtype(dtype)
        for name, value in header.geometry.items():
            fields[name] = value
        stored = orientations.apply_orientation(voxels, back).reshape(header.shape)
        fields.set_data_shape(stored.shape)
        image = nib.Nifti1Image(stored, fields.get_best_affine(), fields)
    with replacing(path) as partial:
        nib.save(image, partial)
    return path
