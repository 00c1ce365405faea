"""What can happen to a file of any kind: its bytes, its place in the folder, and another file instead of it."""

import functools
import gzip
import io
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import torch

from tests.fuzz.trial import SENTINEL

Mutate = Callable[[bytes, Random], bytes]


class Hostile:
    """An object whose unpickling creates the sentinel in the working folder."""

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {SENTINEL}",)


def flip_bits(data: bytes, draw: Random) -> bytes:
    """Flip one bit, or a few."""
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 3, 30)) if data else 0):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def flip_early_bit(data: bytes, draw: Random) -> bytes:
    """Flip a bit of the first bytes, where headers are."""
    changed = bytearray(data)
    if data:
        changed[draw.randrange(min(len(data), 400))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def truncate(data: bytes, draw: Random) -> bytes:
    """Keep the beginning of a file: none of it, a little, or all but a little."""
    return data[: draw.choice((0, 1, draw.randrange(len(data) + 1), len(data) // 2, max(0, len(data) - 1)))]


def delete_chunk(data: bytes, draw: Random) -> bytes:
    """Leave out a part."""
    start, stop = sorted(draw.randrange(len(data) + 1) for _ in range(2))
    return data[:start] + data[min(stop, start + draw.choice((1, 16, 4096))) :]


def duplicate_chunk(data: bytes, draw: Random) -> bytes:
    """Write a part twice."""
    start, stop = sorted(draw.randrange(len(data) + 1) for _ in range(2))
    return data[:stop] + data[start:]


def overwrite_chunk(data: bytes, draw: Random) -> bytes:
    """Replace a part by zeros, ones or noise."""
    start = draw.randrange(len(data) + 1)
    length = min(draw.choice((1, 4, 64, 4096)), len(data) - start)
    noise = draw.choice((bytes(length), b"\xff" * length, draw.randbytes(length)))
    return data[:start] + noise + data[start + length :]


def append_garbage(data: bytes, draw: Random) -> bytes:
    """Go on after the end."""
    return data + draw.choice((b"\0", b"\n", draw.randbytes(100), bytes(4096), data))


BYTES: tuple[Mutate, ...] = (
    *(flip_bits, flip_early_bit, truncate, delete_chunk, duplicate_chunk, overwrite_chunk, append_garbage),
)


def pickled(draw: Random) -> bytes:
    """Return a pickle that executes something, bare or in the archive that torch.save writes."""
    bare, stream = pickle.dumps({"state_dict": Hostile()}), io.BytesIO()
    if draw.random() < 0.3:
        return bare
    if draw.random() < 0.5:
        torch.save({"weight": torch.zeros(3), "more": Hostile()}, stream)
    else:
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("archive/data.pkl", bare)
            archive.writestr("archive/version", "3")
    return stream.getvalue()


def object_array(draw: Random) -> bytes:
    """Return a .npy file of Python objects, which numpy unpickles if it is allowed to."""
    stream = io.BytesIO()
    np.save(stream, np.array([Hostile()], dtype=object), allow_pickle=True)
    return stream.getvalue()


@functools.cache
def zeros_packed() -> bytes:
    """Return a gzip member that expands to 64 MiB of zeros."""
    return gzip.compress(bytes(2**26))


def gzip_bomb(draw: Random) -> bytes:
    """Return a small file that expands a thousandfold: to 0.1 or 12 GB of zeros."""
    return zeros_packed() * draw.choice((2, 200))


STRANGERS: dict[str, Callable[[Random], bytes]] = {
    "a pickle": pickled,
    "a numpy file of objects": object_array,
    "a gzip bomb": gzip_bomb,
    "an empty file": lambda draw: b"",
    "a web page": lambda draw: b"<!DOCTYPE html><html><body>404 not found</body></html>\n",
    "noise": lambda draw: draw.randbytes(draw.choice((1, 8, 352, 5000))),
    "zeros": lambda draw: bytes(draw.choice((8, 348, 352, 100_000))),
    "null": lambda draw: b"null",
    "packed noise": lambda draw: gzip.compress(draw.randbytes(4000)),
    "a pointer of git LFS": lambda draw: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
    "brackets": lambda draw: b"[" * 100_000,
    "a long number": lambda draw: b"9" * 100_000,
    "UTF-16": lambda draw: '{"a": 1}'.encode("utf-16"),
}


def damage_bytes(path: Path, draw: Random) -> str:
    """Damage the content of a file, and return how."""
    change = draw.choice(BYTES)
    path.write_bytes(change(path.read_bytes(), draw))
    return f"{path.name}: {change.__name__}"


def put_stranger(path: Path, draw: Random) -> str:
    """Replace the content of a file by something else, and return by what."""
    name = draw.choice(list(STRANGERS))
    path.write_bytes(STRANGERS[name](draw))
    return f"{path.name}: {name} instead"


def swap(path: Path, draw: Random, others: list[Path]) -> str:
    """Replace a file by a healthy one of another kind."""
    other = draw.choice(others)
    shutil.copyfile(other, path)
    return f"{path.name}: {other.name} instead"


def displace(path: Path, draw: Random) -> str:
    """Replace a file or folder by something that is not a file, or by nothing."""
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    ways: dict[str, Callable[[], object]] = {
        "missing": lambda: None,
        "a folder": path.mkdir,
        "a link to nothing": lambda: path.symlink_to("nothing"),
        "a link to itself": lambda: path.symlink_to(path.name),
        "a link to its folder": lambda: path.symlink_to("."),
        "a link to /dev/zero": lambda: path.symlink_to("/dev/zero"),
        "a pipe": lambda: os.mkfifo(path),
    }
    name = draw.choice(list(ways))
    ways[name]()
    return f"{path.name}: {name}"


def damage_file(path: Path, draw: Random, others: list[Path]) -> str:
    """Do to a file what can happen to any."""
    way = draw.random()
    if way < 0.6:
        return damage_bytes(path, draw)
    if way < 0.75:
        return put_stranger(path, draw)
    return swap(path, draw, others) if others and way < 0.85 else displace(path, draw)
