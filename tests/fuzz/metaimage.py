"""MetaImage files made and decoded without ITK: lines "Key = Value", then the voxels.

References:
    https://itk.org/Wiki/ITK/MetaIO/Documentation
"""

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.fuzz.nifti import Damaged, Decoded, check_affine, check_rest

LAST = b"ElementDataFile = LOCAL\n"
NAMES = {"f4": "MET_FLOAT", "f8": "MET_DOUBLE", "i2": "MET_SHORT", "u1": "MET_UCHAR"}
TYPES = {
    **{name: kind for kind, name in NAMES.items()},
    "MET_CHAR": "i1",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
}
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
repack = zlib.compress


def encode(voxels: npt.NDArray[Any], affine: npt.NDArray[np.float64], packed: bool, file: str = "LOCAL") -> bytes:
    """Return a file of voxels (D, H, W[, N]); with the name of another file, its header alone."""
    matrix, edges = (LPS @ affine)[:3, :3], np.linalg.norm(affine[:3, :3], axis=0)
    values = voxels.shape[3] if voxels.ndim == 4 else 1
    body = np.moveaxis(voxels, 3, 0) if values > 1 else voxels
    stored = body.tobytes(order="F")
    lines = {
        "ObjectType": "Image", "NDims": 3, "BinaryData": True, "BinaryDataByteOrderMSB": False, "CompressedData": packed,
        "TransformMatrix": _words((matrix / edges).T), "Offset": _words((LPS @ affine)[:3, 3]), "ElementSpacing": _words(edges),
        "DimSize": _words(voxels.shape[:3]), "ElementNumberOfChannels": values, "ElementType": NAMES[voxels.dtype.str[1:]],
        "ElementDataFile": file,
    }  # fmt: skip
    header = "".join(f"{key} = {value}\n" for key, value in lines.items()).encode()
    return header + (repack(stored) if packed else stored) * (file == "LOCAL")


def _words(numbers: Any) -> str:
    return " ".join(repr(number) for number in np.asarray(numbers).ravel().tolist())


def decode(data: bytes, outside: bytes | None = None) -> Decoded:
    """Read a file, or a header and the file of its voxels, as the format says, or say why it cannot be read."""
    end = data.find(b"\n", data.find(b"ElementDataFile"))
    if b"ElementDataFile" not in data or end < 0:
        raise Damaged("it has no header")
    fields: dict[str, str] = {}
    for line in data[:end].decode("latin-1").splitlines():
        key, equals, value = line.partition("=")
        if equals:
            fields[key.strip()] = value.strip()
    try:
        return _decode(fields, data[end + 1 :] if outside is None else outside)
    except (ValueError, KeyError, IndexError) as problem:
        raise Damaged(f"its header: {problem}") from problem


def _decode(fields: dict[str, str], body: bytes) -> Decoded:
    shape, axes = [int(word) for word in fields["DimSize"].split()], int(fields["NDims"])
    values = int(fields.get("ElementNumberOfChannels", 1))
    spacing = [float(word) for word in fields.get("ElementSpacing", fields.get("ElementSize", "1 " * axes)).split()]
    kind = np.dtype(TYPES[fields["ElementType"]])
    big = [
        fields.get(key, "False").lower() in ("true", "1") for key in ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
    ]
    if any(big):
        kind = kind.newbyteorder(">")
    count = int(np.prod([values, *shape], dtype=object))
    if min(values, *shape) < 1 or len(shape) != axes or len(spacing) != axes:
        raise Damaged(f"DimSize is {shape}")
    if fields.get("CompressedData", "False").lower() in ("true", "1"):
        stream = zlib.decompressobj()
        try:
            body = stream.decompress(body, 2**28)
        except zlib.error as error:
            raise Damaged(f"zlib: {error}") from error
        if not stream.eof:
            raise Damaged("zlib: it ends early")
        check_rest(stream.unused_data, 0)
    check_rest(body, count * kind.itemsize)
    flat = np.frombuffer(body, kind, count).astype(np.float64)
    voxels = flat.reshape([values, *shape], order="F")
    voxels = voxels[0] if values == 1 else np.moveaxis(voxels, 0, -1)
    words = next((fields[key].split() for key in ("TransformMatrix", "Rotation", "Orientation") if key in fields), None)
    turn = np.eye(axes) if words is None else np.array([float(word) for word in words]).reshape(axes, axes).T
    places = next((fields[key].split() for key in ("Offset", "Origin", "Position") if key in fields), ["0"] * axes)
    affine, spatial = np.eye(4), min(3, axes)
    affine[:spatial, :spatial] = (turn * spacing)[:spatial, :spatial]
    affine[:spatial, 3] = [float(word) for word in places][:spatial]
    return Decoded(voxels, check_affine(LPS @ affine))
