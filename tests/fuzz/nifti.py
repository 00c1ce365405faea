"""NIfTI files made, damaged and decoded without nibabel: numpy and the tables of the two headers.

References:
    https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h and nifti2.h
"""

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.fuzz.damage import BYTES

# name → (offset, struct format) in headers of 348 and of 540 bytes
FIRST = {
    "sizeof_hdr": (0, "i"), "dim_info": (39, "B"), "dim": (40, "8h"), "intent_code": (68, "h"), "datatype": (70, "h"),
    "bitpix": (72, "h"), "pixdim": (76, "8f"), "vox_offset": (108, "f"), "scl_slope": (112, "f"), "scl_inter": (116, "f"),
    "xyzt_units": (123, "B"), "qform_code": (252, "h"), "sform_code": (254, "h"), "quatern": (256, "3f"),
    "qoffset": (268, "3f"), "srow": (280, "12f"), "magic": (344, "4s"), "extension": (348, "4s"),
}  # fmt: skip
SECOND = {
    "sizeof_hdr": (0, "i"), "magic": (4, "8s"), "datatype": (12, "h"), "bitpix": (14, "h"), "dim": (16, "8q"),
    "pixdim": (104, "8d"), "vox_offset": (168, "q"), "scl_slope": (176, "d"), "scl_inter": (184, "d"),
    "qform_code": (344, "i"), "sform_code": (348, "i"), "quatern": (352, "3d"), "qoffset": (376, "3d"),
    "srow": (400, "12d"), "xyzt_units": (500, "i"), "extension": (540, "4s"),
}  # fmt: skip
KINDS = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
UNITS = {1: 1000.0, 3: 0.001}
INTEGERS = (
    0,
    -1,
    1,
    2,
    3,
    4,
    7,
    8,
    16,
    32,
    64,
    128,
    256,
    511,
    1536,
    1792,
    2048,
    2304,
    32767,
    -32768,
    348,
    352,
    353,
    2**31 - 1,
)
REALS = (
    0.0,
    -0.0,
    -1.0,
    1.0,
    2.0,
    1e-30,
    1e30,
    3e38,
    1e-45,
    1e6,
    348.0,
    352.5,
    -1e9,
    float("nan"),
    float("inf"),
    -float("inf"),
)
SMALLEST, LARGEST, FARTHEST = 1e-6, 1e4, 1e6  # edges and place of a voxel, mm
PADDING = 4096  # zeros that may lie behind the voxels, bytes


class Damaged(Exception):  # noqa: N818
    """A file that no reader can know how to read."""


@dataclass(frozen=True)
class Decoded:
    """Stored voxels as float64, and their affine in mm; None where the header has neither sform nor qform."""

    voxels: npt.NDArray[np.float64]
    affine: npt.NDArray[np.float64] | None


def encode(voxels: npt.NDArray[Any], affine: npt.NDArray[np.float64], second: bool = False, order: str = "<") -> bytes:
    """Return an uncompressed NIfTI-1 or -2 file of voxels (D, H, W[, N])."""
    fields, size = (SECOND, 540) if second else (FIRST, 348)
    header = bytearray(size + 4)
    code = next(code for code, kind in KINDS.items() if kind == voxels.dtype.str[1:])
    edges = np.linalg.norm(affine[:3, :3], axis=0).tolist()
    values = {
        "sizeof_hdr": [size], "dim": [voxels.ndim, *voxels.shape, *[1] * (7 - voxels.ndim)], "datatype": [code],
        "bitpix": [voxels.dtype.itemsize * 8], "pixdim": [1.0, *edges, 1.0, 0, 0, 0], "vox_offset": [size + 4],
        "scl_slope": [1], "xyzt_units": [2], "sform_code": [1], "srow": affine[:3].ravel().tolist(),
        "magic": [b"n+2\0\r\n\x1a\n" if second else b"n+1\0"],
    }  # fmt: skip
    for name, value in values.items():
        struct.pack_into(order + fields[name][1], header, fields[name][0], *value)
    return bytes(header) + voxels.astype(voxels.dtype.newbyteorder(order)).tobytes(order="F")


def decode(data: bytes) -> Decoded:
    """Read an uncompressed file as the standard says, or say why it cannot be read."""
    fields, order = _layout(data)

    def get(name: str) -> tuple[Any, ...]:
        return struct.unpack_from(order + fields[name][1], data, fields[name][0])

    axes = get("dim")[0]
    if not 1 <= axes <= 7:
        raise Damaged(f"dim[0] is {axes}")
    shape = get("dim")[1 : axes + 1]
    if min(shape) < 1:
        raise Damaged(f"dim is {shape}")
    if (code := get("datatype")[0]) not in KINDS:
        raise Damaged(f"datatype is {code}")
    kind, start = np.dtype(order + KINDS[code]), get("vox_offset")[0]
    if not math.isfinite(start) or start < fields["extension"][0] + 4:
        raise Damaged(f"vox_offset is {start}")
    check_rest(data, int(start) + math.prod(shape) * kind.itemsize)
    stored = np.frombuffer(data, kind, math.prod(shape), int(start)).reshape(shape, order="F").astype(np.float64)
    slope, inter = get("scl_slope")[0], get("scl_inter")[0]
    with np.errstate(all="ignore"):
        voxels = stored * slope + inter if slope != 0 and math.isfinite(slope) else stored
    return Decoded(voxels, _affine(get, len(shape), shape))


def _layout(data: bytes) -> tuple[dict[str, tuple[int, str]], str]:
    for size, fields, magic in ((348, FIRST, b"n+1\0"), (540, SECOND, b"n+2\0")):
        for order in "<>":
            if len(data) >= size and struct.unpack_from(order + "i", data)[0] == size:
                if data[fields["magic"][0] :].startswith(magic):
                    return fields, order
                raise Damaged("its magic is wrong")
    raise Damaged("it has no header")


def _affine(get: Any, axes: int, shape: tuple[int, ...]) -> npt.NDArray[np.float64] | None:
    unit = UNITS.get(get("xyzt_units")[0] & 7, 1.0)
    if get("sform_code")[0] > 0:
        affine = np.array([*get("srow"), 0, 0, 0, 1]).reshape(4, 4)
    elif get("qform_code")[0] > 0:
        b, c, d = get("quatern")
        if not (rest := 1 - b * b - c * c - d * d) > -1e-5:
            raise Damaged("its quaternion is longer than 1")
        a = math.sqrt(max(rest, 0))
        turn = np.array(
            [
                [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
                [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
                [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - c * c - b * b],
            ]
        )
        sides = np.array(get("pixdim")[1:4]) * (1, 1, -1 if get("pixdim")[0] < 0 else 1)
        affine = np.eye(4)
        affine[:3, :3], affine[:3, 3] = turn * sides, get("qoffset")
    else:
        return None
    affine[:3] *= unit
    return check_affine(affine)


def check_rest(data: bytes, stop: int) -> None:
    """Refuse data that end before the voxels do, or go on behind them with more than a little padding."""
    if stop > len(data):
        raise Damaged(f"its header asks for {stop} bytes of {len(data)}")
    if len(data) - stop > PADDING or any(data[stop:]):
        raise Damaged(f"{len(data) - stop} bytes lie behind the voxels")


def check_affine(affine: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return an affine in mm, unless it does not place voxels."""
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9 * np.prod(edges):
        raise Damaged(f"its affine is singular or not finite: {affine.tolist()}")
    if edges.min() < SMALLEST or edges.max() > LARGEST or abs(affine[:3, 3]).max() > FARTHEST:
        raise Damaged(f"its voxels are {edges.tolist()} mm")
    return affine


def unpack(data: bytes, most: int = 2**28) -> bytes:
    """Return what a gzip file holds, its checksums checked by zlib."""
    found = b""
    while data.rstrip(b"\0") or not found:
        stream = zlib.decompressobj(31)
        try:
            found += stream.decompress(data, most)
        except zlib.error as error:
            raise Damaged(f"gzip: {error}") from error
        if stream.unconsumed_tail:
            raise Damaged("gzip: a bomb")
        if not stream.eof:
            raise Damaged("gzip: it ends early")
        data = stream.unused_data
    return found


def damage_field(data: bytes, draw: Random) -> tuple[bytes, str]:
    """Set a field of the header of an uncompressed file, or a part of it, to an extreme value."""
    fields = SECOND if data[:2] in (b"\x1c\x02", b"\0\0") and 540 in struct.unpack("<i", data[:4]) else FIRST
    order = "<" if struct.unpack("<i", data[:4])[0] in (348, 540) else ">"
    name = draw.choice(
        [name for name in fields if name != "extension"] + ["dim", "srow", "datatype", "pixdim", "scl_slope"]
    )
    offset, form = fields[name]
    values = list(struct.unpack_from(order + form, data, offset))
    chosen: Any
    if form[-1] == "s":
        chosen = draw.choice((b"ni1\0", b"n+1\0", b"n+2\0", bytes(8), b"\xff" * 8))[: int(form[:-1])]
    elif form[-1] in "fd":
        chosen = draw.choice(REALS)
    else:
        bits = struct.calcsize(form[-1]) * 8
        chosen = draw.choice(INTEGERS) % 2**bits
        chosen -= 2**bits if form[-1] != "B" and chosen >= 2 ** (bits - 1) else 0
    if draw.random() < 0.25:
        values = [chosen] * len(values)
    else:
        values[draw.randrange(len(values))] = chosen
    changed = bytearray(data)
    struct.pack_into(order + form, changed, offset, *values)
    return bytes(changed), f"{name} = {values}"


def damage(data: bytes, packed: bool, draw: Random) -> tuple[bytes, str]:
    """Damage a NIfTI file: a field, its bytes, or, where it is packed, the bytes inside or those of the gzip stream."""
    way = draw.random()
    if packed and way < 0.4:
        change = draw.choice(BYTES)
        return change(data, draw), f"gzip stream: {change.__name__}"
    if packed and way < 0.45:
        return gzip.compress(unpack(data) + bytes(2**27), 1), "zeros without end behind the voxels"
    plain = unpack(data) if packed else data
    if way < 0.8:
        plain, done = damage_field(plain, draw)
        if draw.random() < 0.2:
            plain, more = damage_field(plain, draw)
            done += f", {more}"
    else:
        change = draw.choice(BYTES)
        plain, done = change(plain, draw), f"file: {change.__name__}"
    return gzip.compress(plain, 1) if packed else plain, done
