"""PNG images made, damaged and decoded without Pillow: zlib and the rules of the five filters.

References:
    W3C 2003, Portable Network Graphics (PNG) Specification, second edition.
"""

import struct
import zlib
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.fuzz.nifti import Damaged

START = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
Chunks = list[tuple[bytes, bytes]]


def encode(pixels: npt.NDArray[Any], palette: bool = False) -> bytes:
    """Return a PNG of pixels (rows, columns[, 3]), 8 or 16 bits."""
    rows, columns = pixels.shape[:2]
    colour = 3 if palette else 2 if pixels.ndim == 3 else 0
    header = struct.pack(">IIBBBBB", columns, rows, 8 * pixels.dtype.itemsize, colour, 0, 0, 0)
    lines = b"".join(b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes() for row in pixels)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return join(chunks[:1] + [(b"PLTE", bytes(range(48)))] * palette + chunks[1:])


def join(chunks: Chunks) -> bytes:
    """Return a file of chunks, with right lengths and checksums."""
    return START + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def split(data: bytes) -> Chunks:
    """Return the chunks of a file, up to IEND, checked."""
    if not data.startswith(START):
        raise Damaged("it has no signature")
    place, chunks = len(START), []
    while not chunks or chunks[-1][0] != b"IEND":
        if place + 12 > len(data):
            raise Damaged("it ends early")
        length = struct.unpack_from(">I", data, place)[0]
        kind, body = data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        if data[place + 8 + length : place + 12 + length] != struct.pack(">I", zlib.crc32(kind + body)):
            raise Damaged(f"the checksum of {kind!r} is wrong")
        chunks.append((kind, body))
        place += 12 + length
    return chunks


def decode(data: bytes) -> npt.NDArray[np.float64]:
    """Return pixels (rows, columns, channels); of a palette the indices."""
    chunks = split(data)
    if chunks[0][0] != b"IHDR" or len(chunks[0][1]) != 13:
        raise Damaged("its header is wrong")
    columns, rows, depth, colour, method, filtering, interlace = struct.unpack(">IIBBBBB", chunks[0][1])
    if (
        colour not in CHANNELS
        or depth not in (1, 2, 4, 8, 16)
        or method
        or filtering
        or interlace > 1
        or not rows * columns
    ):
        raise Damaged("its header has impossible values")
    if depth < 8 or interlace:
        raise NotImplementedError
    try:
        stream = zlib.decompressobj()
        lines = stream.decompress(b"".join(body for kind, body in chunks if kind == b"IDAT"), 2**26)
    except zlib.error as error:
        raise Damaged(f"zlib: {error}") from error
    pixel = CHANNELS[colour] * depth // 8
    wide = columns * pixel
    if not stream.eof or len(lines) != rows * (wide + 1):
        raise Damaged(f"it holds {len(lines)} bytes and not {rows * (wide + 1)}")
    table = np.frombuffer(lines, np.uint8).reshape(rows, wide + 1)
    flat = _unfilter(table, pixel)
    found = flat.reshape(rows, -1).view(">u2" if depth == 16 else np.uint8).astype(np.float64)
    return found.reshape(rows, columns, CHANNELS[colour])


def _unfilter(table: npt.NDArray[np.uint8], pixel: int) -> npt.NDArray[np.uint8]:
    out = np.zeros((len(table) + 1, table.shape[1] - 1 + pixel), np.int64)
    for row, (rule, *line) in enumerate(table.tolist(), start=1):
        if rule > 4:
            raise Damaged(f"filter {rule}")
        for place, byte in enumerate(line, start=pixel):
            left, above, corner = (
                int(out[r, c]) for r, c in ((row, place - pixel), (row - 1, place), (row - 1, place - pixel))
            )
            guess = left + above - corner
            near = min((left, above, corner), key=lambda it: abs(guess - it))
            out[row, place] = (byte + (0, left, above, (left + above) // 2, near)[rule]) % 256
    return out[1:, pixel:].astype(np.uint8)


def damage_chunk(data: bytes, draw: Random) -> tuple[bytes, str]:
    """Damage a chunk and give it a right checksum."""
    chunks = split(data)
    place = draw.randrange(len(chunks))
    kind, body = chunks[place]
    way = draw.choice(("header", "header", "drop", "twice", "body", "pixels", "kind", "more", "bomb", "huge"))
    if way == "header":
        fields = list(struct.unpack(">IIBBBBB", chunks[0][1]))
        field = draw.randrange(7)
        fields[field] = draw.choice((0, 1, 2, 3, 4, 6, 8, 16, 255, 9000, 2**31 - 1, 2**32 - 1)) % (
            2**32 if field < 2 else 256
        )
        chunks[0] = kind, struct.pack(">IIBBBBB", *fields)
        chunks[0] = b"IHDR", chunks[0][1]
        way += f" {fields}"
    elif way == "drop":
        del chunks[place]
    elif way == "twice":
        chunks.insert(place, chunks[place])
    elif way == "body" and body:
        changed = bytearray(body)
        changed[draw.randrange(len(body))] ^= 1 << draw.randrange(8)
        chunks[place] = kind, bytes(changed)
    elif way == "pixels":
        index = next(number for number, (kind, _) in enumerate(chunks) if kind == b"IDAT")
        lines = bytearray(zlib.decompress(chunks[index][1]))
        lines[draw.randrange(len(lines))] = draw.randrange(256)
        chunks[index] = b"IDAT", zlib.compress(bytes(lines))
    elif way == "kind":
        chunks[place] = draw.choice((b"tEXt", b"IDAT", b"acTL", b"QQQQ", b"\0\0\0\0", b"tRNS", b"PLTE")), body
    elif way in ("bomb", "huge"):
        edge = 60_000 if way == "bomb" else 9000
        lines = zlib.compress(bytes(2**24))
        chunks[0] = b"IHDR", struct.pack(">IIBBBBB", edge, edge, 8, 0, 0, 0, 0)
        chunks[1:] = [(b"IDAT", lines), (b"IEND", b"")]
    else:
        extra = draw.choice(
            ((b"tRNS", bytes(2)), (b"zTXt", b"a\0\0" + zlib.compress(bytes(2**27))), (b"gAMA", bytes(4)))
        )
        chunks.insert(1, extra)
        way = f"more {extra[0]!r}"
    return join(chunks), f"{way} of chunk {place} {kind!r}"
