"""NIfTI files: voxels and their place in mm. Only this module uses nibabel, which it imports when a file is opened (0.3 s).

Volumes are turned to one orientation as they are read: axes are permuted and flipped, never interpolated, so that they run as
closely as possible to right, anterior, superior (RAS). The exception is a single slice: it lies across the last axis, whichever
way it was cut. A result is turned back and written with the scan's own header, so it lies on the scan voxel by voxel in any
viewer, whichever of the two affines, qform or sform, that viewer uses.
"""

import gzip
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from pyro_dwp.data.paths import NIFTI, decoding
from pyro_dwp.data.scan import Affine, Header
from pyro_dwp.data.volume import Volume, corner_distance, same_place
from pyro_dwp.errors import DataError
from pyro_dwp.files import replacing

BEST_RATIO = 1032  # of deflate: a header cannot claim more bytes than this times the size of its file
MOST_VALUES = 2**30
LONGEST_HEADER = 540  # bytes, of NIfTI-2
PADDING = 4096  # bytes: a block of a disk, which some programs fill with zeros behind the voxels
RESERVED_FLAGS = 0xE0  # of a gzip header
CODES = range(6)  # of sform and qform; nibabel would set others to 0, and so move the voxels elsewhere
SMALLEST, LARGEST, FARTHEST = 1e-6, 1e4, 1e6  # edges and place of a voxel in mm, beyond which a header is damaged
MILLIMETRES = {1: 1000.0, 3: 0.001}  # by NIfTI's code of the unit: metres, micrometres; any other is taken as mm
GEOMETRY = (
    *("pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)


def load_nifti(
    path: Path, sequences: int | None = 1, dtype: npt.DTypeLike | None = np.float32, like: Volume | None = None
) -> Volume:
    """Read one file to its end and turn it to RAS.

    Args:
        path: of a .nii or .nii.gz file.
        sequences: N, stored along the fourth axis; 1 for a 3-D image or a single slice of two axes; None for any.
        dtype: of the voxels; None keeps the stored one where the header does not rescale it.
        like: a volume of the same case. On the same stored grid the axes are turned alike, even where rounding would decide
            between two equally close orientations.

    Raises:
        DataError: if the file is missing, unreadable, truncated or damaged, claims more voxels than it can hold or more than
            2³⁰, has another number of axes, or an affine that does not place its voxels.
    """
    from nibabel.imageglobals import LoggingOutputSuppressor  # nibabel's remarks on headers do not name the file

    path = Path(path)
    with decoding(path, "a NIfTI volume of real numbers"), np.errstate(all="ignore"), LoggingOutputSuppressor():
        image = _decode(path)
        array = np.asarray(image.dataobj, dtype=dtype)
        unit = MILLIMETRES.get(int(image.header["xyzt_units"]) & 7, 1.0)
        stored = np.diag([unit, unit, unit, 1.0]) @ np.asarray(image.affine, dtype=np.float64)
    geometry = {name: image.header[name].copy() for name in GEOMETRY}
    return turn_to_ras(path, array, stored, sequences, like, geometry)


def turn_to_ras(
    path: Path,
    array: npt.NDArray[Any],
    stored: Affine,
    sequences: int | None,
    like: Volume | None = None,
    geometry: Mapping[str, npt.NDArray[np.generic]] | None = None,
) -> Volume:
    """Permute and flip the axes of stored voxels so that they run to right, anterior, superior.

    Args:
        path: of the file, named in errors.
        array: voxels along the stored axes: two or three, and one for several sequences.
        stored: affine of these axes, RAS mm, (4, 4).
        sequences: N that the array should hold; None for any.
        like: a volume of the same case, see `load_nifti`.
        geometry: fields of a NIfTI header that place the voxels; None for those that `write_volume` would write.

    Raises:
        DataError: if the array has another number of axes, or the affine does not place its voxels.
    """
    from nibabel import orientations

    edges = np.linalg.norm(stored[:3, :3], axis=0)
    if not np.isfinite(stored).all() or abs(np.linalg.det(stored[:3, :3])) <= 1e-6 * np.prod(edges):
        raise DataError(
            f"The affine of {path} places all voxels in one plane or is not finite: {stored.tolist()}. "
            "Repair its header (in NIfTI: sform, qform)."
        )
    if edges.min() < SMALLEST or edges.max() > LARGEST or abs(stored[:3, 3]).max() > FARTHEST:
        raise DataError(
            f"A voxel measures {SMALLEST:g} to {LARGEST:g} mm and lies within {FARTHEST:g} mm, but {path} has the affine "
            f"{stored.tolist()}. "
            "Repair its header (sform, qform, pixdim, xyzt_units)."
        )
    shape = tuple(array.shape[:3])
    array = _four_axes(array, path, sequences)
    grid, known = array.shape[:3], like.header if like else None
    alike = known is not None and known.shape == shape and same_place(grid, known.affine, stored)
    turn = known.turn if known and alike else _turn(stored, grid)
    turned = np.ascontiguousarray(np.moveaxis(orientations.apply_orientation(array, turn), 3, 0))
    affine = stored @ orientations.inv_ornt_aff(turn, grid)
    if geometry is None:
        header = _fields(grid, stored)
        geometry = {name: header[name].copy() for name in GEOMETRY}
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
        header = kind.header_class(start[: kind.header_class.sizeof_hdr], check=False)
        for name, legal in (("sizeof_hdr", [header.sizeof_hdr]), ("sform_code", CODES), ("qform_code", CODES)):
            if int(header[name]) not in legal:
                raise ValueError(f"its {name} is {header[name]}")
        if header["magic"].item() != header.single_magic:
            raise ValueError("its voxels are in another file")
        shape, voxel = header.get_data_shape(), header.get_data_dtype()
        if voxel.kind not in "biuf":
            raise ValueError(f"its voxels are {voxel}")
        claimed = header.get_data_offset() + check_claim(path, shape, voxel.itemsize, size, packed)
        content = start + stream.read(max(0, claimed - len(start)))
        check_padding(stream.read(PADDING + 1))  # at the end gzip compares length and checksum
    return kind.from_bytes(content)


def check_claim(path: Path, shape: tuple[int, ...], itemsize: int, size: int, packed: bool) -> int:
    """Return how many bytes the voxels take that a header claims, before any memory is taken for them.

    Args:
        path: of the file, named in errors.
        shape: that the header claims.
        itemsize: bytes of a voxel.
        size: bytes that are there.
        packed: whether they are compressed by deflate.

    Raises:
        DataError: if there are more than 2³⁰ values.
        ValueError: if an edge is not positive, or the file cannot hold so many.
    """
    if min(shape, default=0) < 1:
        raise ValueError(f"its header claims the shape {shape}")
    if math.prod(shape) > MOST_VALUES:
        raise DataError(f"{path} claims the shape {shape}, but at most 2**30 values can be read. Crop or resample it.")
    claimed = math.prod(shape) * itemsize
    if claimed > size * (BEST_RATIO if packed else 1):
        raise ValueError(f"its header claims the shape {shape}, more than a file of {size} bytes can hold")
    return claimed


def check_padding(rest: bytes) -> None:
    """Refuse what lies behind the voxels, unless it is a little padding: a header that claims too few leaves some of them there.

    Args:
        rest: bytes behind the voxels; of very many, the first 4097.

    Raises:
        ValueError: if there are more than 4096, or one is not zero.
    """
    if len(rest) > PADDING or any(rest):
        raise ValueError("it holds more than the voxels that its header claims")


def inflated(content: bytes, most: int, window: int = zlib.MAX_WBITS) -> bytes:
    """Return compressed bytes unpacked, after their checksum was compared.

    Args:
        content: a stream of zlib, or of gzip.
        most: bytes that it may hold.
        window: of zlib; 31 for gzip.

    Raises:
        ValueError: if it holds more, or is cut off.
        zlib.error: if it is damaged.
    """
    inflate = zlib.decompressobj(window)
    unpacked = inflate.decompress(content, most + PADDING + 1)
    if not inflate.eof:
        raise ValueError("its compressed voxels do not end where they should")
    check_padding(inflate.unused_data)
    return unpacked


def _four_axes(array: npt.NDArray[Any], path: Path, sequences: int | None) -> npt.NDArray[Any]:
    """Return the stored voxels as (D, H, W, N); an image of two axes becomes one slice."""
    if array.ndim == 2:
        array = array[..., None]
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim == 3 and sequences in (1, None):
        return array[..., None]
    if array.ndim == 4 and sequences in (array.shape[3], None):
        return array
    if array.ndim == 4:
        cure = (
            f"Say that a file holds {array.shape[3]}, with --data.channels {array.shape[3]}, or in a Decathlon task by as many "
            "entries of 'modality' in its dataset.json."
        )
    elif array.ndim == 3:
        cure = "Join its sequences along a fourth axis, or store them as NAME_0000.nii.gz, NAME_0001.nii.gz, …"
    else:
        cure = "Export it as one image of two or three axes."
    raise DataError(
        f"{path} should hold {sequences or 'one or several'} 3-D sequence(s), but has the shape {array.shape}. {cure}"
    )


def _turn(affine: Affine, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Return nibabel's orientation that turns stored axes to RAS, except that the axis of a single slice becomes the last."""
    from nibabel import orientations

    turn = np.asarray(orientations.io_orientation(affine))
    if shape.count(1) == 1:
        single = shape.index(1)
        turn[turn[:, 0] > turn[single, 0], 0] -= 1
        turn[single, 0] = 2
    return turn


def _fields(shape: tuple[int, ...], affine: Affine) -> Any:
    """Return a header with an sform and, unless the axes are sheared, an equal qform, in mm."""
    import nibabel as nib

    header = nib.Nifti1Header()
    header.set_data_shape(shape)
    header.set_xyzt_units("mm")
    header.set_sform(affine, code="scanner")
    header.set_qform(affine, code="scanner")
    apart = corner_distance(shape, affine, header.get_qform())
    if apart > 0.01 * np.linalg.norm(affine[:3, :3], axis=0).min():  # a qform cannot express a shear
        header.set_qform(None, code="unknown")
    return header


def write_volume(
    path: Path,
    array: npt.ArrayLike | Tensor,
    affine: Affine,
    dtype: npt.DTypeLike = np.float32,
    header: Header | None = None,
    steps: float | None = None,
) -> Path:
    """Write one volume as a NIfTI file, whole or not at all.

    Args:
        path: file to write, ending in .nii.gz or .nii; its folder is made if it is missing.
        array: voxels, (D, H, W).
        affine: of these voxels, indices to mm, (4, 4).
        dtype: in which the file stores the voxels.
        steps: of an integer type, how many make up a unit: values, from 0, are rounded to the nearest step, the lower of two,
            and the header's scl_slope says how long one is, so that every reader sees the values. None stores them unscaled.
        header: of the scan that the volume belongs to: the file gets its axes, its affines and their codes. None writes the
            volume as it is, see `_fields`.

    Returns:
        The path.

    Raises:
        DataError: if the path has another extension, the array is not 3-D, or the file cannot be written.
    """
    import nibabel as nib
    from nibabel import orientations

    path = Path(path)
    voxels = np.asarray(array.detach().cpu() if isinstance(array, Tensor) else array)
    if steps is not None:
        voxels = np.clip(np.ceil(voxels * steps - 0.5), 0, np.iinfo(dtype).max)
    voxels = voxels.astype(dtype)
    if not path.name.endswith(NIFTI):
        raise DataError(f"A NIfTI file's name ends in .nii.gz or .nii, but the path is {path}. Change its extension.")
    if voxels.ndim != 3:
        raise DataError(
            f"A volume has three axes (D, H, W), but the one for {path} has shape {voxels.shape}. Write one file for each."
        )
    if header is None:
        image = nib.Nifti1Image(voxels, affine, _fields(voxels.shape, affine), dtype=voxels.dtype)
    else:
        back = orientations.ornt_transform([[0, 1], [1, 1], [2, 1]], header.turn)
        fields = nib.Nifti1Header()
        fields.set_data_dtype(dtype)
        for name, value in header.geometry.items():
            fields[name] = value
        stored = orientations.apply_orientation(voxels, back).reshape(header.shape)
        fields.set_data_shape(stored.shape)
        image = nib.Nifti1Image(stored, fields.get_best_affine(), fields)
    if steps is not None:
        image.header.set_slope_inter(1 / steps, 0)
    with replacing(path) as partial:
        nib.save(image, partial)
    return path
