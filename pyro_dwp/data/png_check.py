"""Whether a PNG file is whole: Pillow passes over the checksums of pixels, and fills rows that are missing with zeros.

References:
    W3C 2003, Portable Network Graphics (PNG) Specification, second edition, sections 5 and 8.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MOST_BYTES = 2**30
MOST_PIXELS = 2**26  # of one image
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a pixel, by type of colour
PASSES = {  # first column, first row, step along columns, step along rows
    0: [(0, 0, 1, 1)],
    1: [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)],
}


def check_png(path: Path) -> None:
    """Check the structure of a PNG file, all of its checksums, and that it holds every pixel.

    Args:
        path: of the file.

    Raises:
        ValueError: with what is wrong.
    """
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES} bytes")
    chunks = list(_chunks(path.read_bytes()))
    if chunks[0][0] != b"IHDR" or len(chunks[0][1]) != 13:
        raise ValueError("it does not begin with a header")
    columns, rows, depth, colour, method, rule, interlace = struct.unpack(">IIBBBBB", chunks[0][1])
    if colour not in SAMPLES or method or rule or interlace not in PASSES or not 0 < columns * rows <= MOST_PIXELS:
        raise ValueError(f"its header claims {columns} x {rows} pixels of type {colour}")
    bits = depth * SAMPLES[colour]
    passes = [(-(-(columns - x) // right), -(-(rows - y) // down)) for x, y, right, down in PASSES[interlace]]
    wanted = sum(high * (1 + -(-wide * bits // 8)) for wide, high in passes if wide > 0 and high > 0)
    stream = zlib.decompressobj()
    held = len(stream.decompress(b"".join(body for kind, body in chunks if kind == b"IDAT"), wanted + 1))
    if held != wanted or not stream.eof:
        raise ValueError(f"its pixels take {wanted} bytes, but it holds {'more' if held > wanted else held}")


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and content of each chunk, IEND included."""
    if not data.startswith(SIGNATURE):
        raise ValueError("it has no signature")
    place, kind = len(SIGNATURE), b""
    while kind != b"IEND":
        if place + 12 > len(data):
            raise ValueError("it ends early")
        stop = place + 12 + struct.unpack_from(">I", data, place)[0]
        kind, body, checksum = data[place + 4 : place + 8], data[place + 8 : stop - 4], data[stop - 4 : stop]
        if stop > len(data) or checksum != struct.pack(">I", zlib.crc32(kind + body)):
            raise ValueError(f"the checksum of its part {kind.decode('latin1')!r} is wrong")
        yield kind, body
        place = stop
