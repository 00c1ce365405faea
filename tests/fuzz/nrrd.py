"""NRRD files made and decoded without pynrrd: lines "field: value", an empty line, then the voxels.

References:
    https://teem.sourceforge.net/nrrd/format.html
"""

import gzip
import re
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.fuzz.nifti import Damaged, Decoded, check_affine, check_rest, unpack

LAST = b"\n\n"
NAMES = {"f4": "float", "f8": "double", "i2": "short", "u1": "uchar"}
TYPES = {name: kind for kind, name in NAMES.items()} | {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"), **dict.fromkeys(("unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("int16", "int16_t", "short int", "signed short"), "i2"), "ushort": "u2", "uint16": "u2", "int": "i4",
    "uint": "u4", "int32": "i4", "uint32": "u4", "longlong": "i8", "int64": "i8", "ulonglong": "u8", "uint64": "u8",
}  # fmt: skip
SPACES = {"left-posterior-superior": (-1, -1, 1), "lps": (-1, -1, 1), "right-anterior-superior": (1, 1, 1)} | {
    "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "las": (-1, 1, 1),
}


def repack(body: bytes) -> bytes:
    """Return bytes as a gzip stream."""
    return gzip.compress(body, 1)


def encode(voxels: npt.NDArray[Any], affine: npt.NDArray[np.float64], packed: bool, file: str = "") -> bytes:
    """Return a file of voxels (D, H, W[, N]), the sequences along the first stored axis; with a file's name, its header alone."""
    body = np.moveaxis(voxels, 3, 0) if voxels.ndim == 4 else voxels
    steps = ["none"] * (body.ndim - 3) + [_vector(column) for column in affine[:3, :3].T]
    fields = {
        "type": NAMES[voxels.dtype.str[1:]], "dimension": body.ndim, "space": "right-anterior-superior",
        "sizes": " ".join(map(str, body.shape)), "space directions": " ".join(steps), "endian": "little",
        "encoding": "gzip" if packed else "raw", "space origin": _vector(affine[:3, 3]),
    }  # fmt: skip
    fields |= {"data file": file} if file else {}
    header = "NRRD0004\n" + "".join(f"{key}: {value}\n" for key, value in fields.items())
    stored = body.tobytes(order="F")
    return f"{header}\n".encode() + (repack(stored) if packed else stored) * (not file)


def _vector(numbers: npt.NDArray[np.float64]) -> str:
    return f"({','.join(map(repr, numbers.tolist()))})"


def decode(data: bytes, outside: bytes | None = None) -> Decoded:
    """Read a file, or a header and the file of its voxels, as the format says, or say why it cannot be read."""
    head, empty, body = data.partition(b"\n\n")
    if not data.startswith(b"NRRD000") or not (empty or data.endswith(b"\n")):
        raise Damaged("it has no header")
    fields: dict[str, str] = {}
    for line in head.decode("latin-1").split("\n")[1:]:
        key, colon, value = line.partition(":")
        if colon and not line.startswith("#"):
            fields[key.strip().lower()] = value.lstrip("=").strip()
    try:
        return _decode(fields, body if outside is None else outside)
    except (ValueError, KeyError, IndexError) as problem:
        raise Damaged(f"its header: {problem}") from problem


def _decode(fields: dict[str, str], body: bytes) -> Decoded:
    shape = [int(word) for word in fields["sizes"].split()]
    if fields["type"] not in TYPES or fields["encoding"].lower() not in ("raw", "gzip", "gz"):
        raise NotImplementedError
    kind = np.dtype(TYPES[fields["type"]])
    if kind.itemsize > 1:
        kind = kind.newbyteorder({"little": "<", "big": ">"}[fields["endian"].lower()])
    if min(shape) < 1 or len(shape) != int(fields["dimension"]):
        raise Damaged(f"sizes are {shape}")
    if fields["encoding"].lower() != "raw":
        body = unpack(body)
    count = int(np.prod(shape, dtype=object))
    check_rest(body, count * kind.itemsize)
    voxels = np.frombuffer(body, kind, count).astype(np.float64).reshape(shape, order="F")
    if "space directions" not in fields:
        raise NotImplementedError
    words = re.findall(r"none|\([^)]*\)", fields["space directions"])
    spatial = [number for number, word in enumerate(words) if word != "none"]
    if len(words) != len(shape) or len(spatial) != 3:
        raise NotImplementedError
    voxels = np.moveaxis(voxels, spatial, range(3))
    affine = np.eye(4)
    for column, number in enumerate(spatial):
        affine[:3, column] = [float(word) for word in words[number].strip("()").split(",")]
    if "space origin" in fields:
        affine[:3, 3] = [float(word) for word in fields["space origin"].strip("()").split(",")]
    if (space := fields.get("space", "lps").lower()) not in SPACES:
        raise Damaged(f"space is {space}")
    return Decoded(voxels, check_affine(np.diag([*SPACES[space], 1.0]) @ affine))
