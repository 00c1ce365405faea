"""MetaImage volumes, .mha or .mhd: a header of lines "Key = value", then the voxels, in the same file or in one beside it.

They are decoded here and not by ITK, whose format it is: ITK takes flipped bits of compressed voxels for other voxels, prints on
its own, and can be made to crash by a header. Places and directions are stored in LPS (left, posterior, superior).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pyro_dwp.data.nifti import check_claim, check_padding, inflated, turn_to_ras
from pyro_dwp.data.paths import decoding, read_beside
from pyro_dwp.data.scan import Affine
from pyro_dwp.data.volume import Volume

LAST = b"ElementDataFile"
LONGEST_HEADER = 2**16
FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])  # LPS to RAS
TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}


def load_metaimage(
    path: Path, sequences: int | None = 1, dtype: npt.DTypeLike | None = np.float32, like: Volume | None = None
) -> Volume:
    """Read one file to its end and turn it to RAS; see `load_nifti` for the arguments.

    Raises:
        DataError: if the file is missing, unreadable, truncated or damaged, claims more voxels than it can hold or more than
            2³⁰, has another number of axes, or a header that does not place its voxels.
    """
    path = Path(path)
    with decoding(path, "a MetaImage volume"), np.errstate(all="ignore"):
        fields, content = _parts(path)
        array = _voxels(path, fields, content)
        array = array.astype(array.dtype.newbyteorder("=") if dtype is None else dtype, copy=False)
        stored = _affine(fields)
    return turn_to_ras(path, array, stored, sequences, like)


def _parts(path: Path) -> tuple[dict[str, str], bytes]:
    """Return the fields of the header, and the bytes of the voxels as they are stored."""
    content = path.read_bytes()
    at = content.find(LAST, 0, LONGEST_HEADER)
    end = content.find(b"\n", at)
    if at < 0 or end < 0:
        raise ValueError(f"it has no header that ends in {LAST.decode()}")
    pairs = [line.partition("=") for line in content[:end].decode("latin-1").splitlines()]
    fields = {key.strip(): value.strip() for key, equals, value in pairs if equals}
    file = fields.get(LAST.decode(), "")
    if file == "LOCAL":
        return fields, content[end + 1 :]
    outside = read_beside(path, file)
    skipped = int(fields.get("HeaderSize", 0))
    return fields, outside[skipped:] if skipped >= 0 else outside[-_claim(path, fields, len(outside)) :]


def _voxels(path: Path, fields: Mapping[str, str], content: bytes) -> npt.NDArray[Any]:
    """Return the voxels along the stored axes, and along a last one the values of each, if these are several."""
    claimed = _claim(path, fields, len(content))
    if _yes(fields, "CompressedData"):
        content = inflated(content, claimed)
    if len(content) < claimed:
        raise ValueError(f"its header claims {claimed} bytes of voxels, but {len(content)} are there")
    check_padding(content[claimed:])
    values = int(fields.get("ElementNumberOfChannels", 1))
    array = np.frombuffer(content[:claimed], _type(fields)).reshape(
        values, *_numbers(fields, int, "DimSize"), order="F"
    )
    return array[0] if values == 1 else np.moveaxis(array, 0, -1)


def _claim(path: Path, fields: Mapping[str, str], size: int) -> int:
    shape = (int(fields.get("ElementNumberOfChannels", 1)), *_numbers(fields, int, "DimSize"))
    return check_claim(path, shape, _type(fields).itemsize, size, _yes(fields, "CompressedData"))


def _type(fields: Mapping[str, str]) -> np.dtype[Any]:
    if not _yes(fields, "BinaryData", "True") or fields.get("ElementType") not in TYPES:
        raise ValueError(f"its voxels are {fields.get('ElementType')}, binary: {fields.get('BinaryData', True)}")
    big = _yes(fields, "BinaryDataByteOrderMSB") or _yes(fields, "ElementByteOrderMSB")
    return np.dtype(TYPES[fields["ElementType"]]).newbyteorder(">" if big else "<")


def _affine(fields: Mapping[str, str]) -> Affine:
    """Return the affine of the stored axes, RAS mm; the file lists the direction of one axis after the other."""
    axes = int(fields["NDims"])
    spacing = _numbers(fields, float, "ElementSpacing", "ElementSize") or [1.0] * axes
    directions = _numbers(fields, float, "TransformMatrix", "Rotation", "Orientation") or np.eye(axes).ravel().tolist()
    places = _numbers(fields, float, "Offset", "Origin", "Position") or [0.0] * axes
    if not len(_numbers(fields, int, "DimSize")) == len(spacing) == len(places) == axes <= 4:
        raise ValueError(f"its header has NDims {axes}, but another number of sizes, spacings or places")
    affine, spatial = np.eye(4), min(axes, 3)
    matrix = np.reshape(directions, (axes, axes)).T @ np.diag(spacing)
    affine[:spatial, :spatial], affine[:spatial, 3] = matrix[:spatial, :spatial], places[:spatial]
    return FLIP @ affine


def _numbers(fields: Mapping[str, str], kind: type[Any], *keys: str) -> list[Any]:
    """Return the numbers of the first of these keys that the header has; none of them, [] ."""
    return next(([kind(word) for word in fields[key].split()] for key in keys if key in fields), [])


def _yes(fields: Mapping[str, str], key: str, otherwise: str = "False") -> bool:
    return fields.get(key, otherwise).lower() in ("true", "1")
