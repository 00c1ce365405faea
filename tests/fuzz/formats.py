"""File formats of scans: how a healthy file is made, how one is damaged, and an independent decoder.

A format is an entry of `FORMATS`, which the kinds of images go through.
"""

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.fuzz import metaimage, nifti, nrrd, png, text_header
from tests.fuzz.damage import BYTES
from tests.fuzz.nifti import Decoded

SHAPE = (8, 7, 6)
AFFINE = np.array([[0, -1.1, 0, 5], [-0.9, 0, 0, 7], [0, 0, 2.0, -3], [0, 0, 0, 1.0]])
Damage = Callable[[bytes, Random], tuple[bytes, str]]


@dataclass(frozen=True)
class Format:
    """A file format.

    Args:
        suffix: of its files.
        encode: (D, H, W[, N]) → the content of a file.
        damage: content → damaged content, and how.
        decode: content → stored voxels (D, H, W[, N]) and affine; raises `Damaged`.
        dtypes: in which images are stored.
        sequences: stored in a file.
    """

    suffix: str
    encode: Callable[[npt.NDArray[Any]], bytes]
    damage: Damage
    decode: Callable[[bytes], Decoded]
    dtypes: tuple[str, ...] = ("f4", "f8", "i2", "u1")
    sequences: int = 1

    @property
    def stored(self) -> int:
        """Sequences that are files' own axis; the colours of a PNG are not."""
        return 1 if self.suffix == ".png" else self.sequences


def nifti_format(packed: bool, sequences: int = 1, **how: Any) -> Format:
    """Return NIfTI of one version, order of bytes and number of sequences, packed or not."""
    pack, unpack = (lambda data: gzip.compress(data, 1), nifti.unpack) if packed else (bytes, bytes)
    return Format(
        ".nii.gz" if packed else ".nii",
        lambda voxels: pack(nifti.encode(voxels, AFFINE, **how)),
        lambda data, draw: nifti.damage(data, packed, draw),
        lambda data: nifti.decode(unpack(data)),
        sequences=sequences,
    )


def text_format(module: ModuleType, suffix: str, packed: bool, sequences: int = 1) -> Format:
    """Return MetaImage or NRRD, packed or not."""
    return Format(
        suffix,
        lambda voxels: module.encode(voxels, AFFINE, packed),
        lambda data, draw: text_header.damage(data, module.LAST, packed, module.repack, draw),
        module.decode,
        sequences=sequences,
    )


def decode_png(data: bytes) -> Decoded:
    pixels = png.decode(data)
    return Decoded(np.moveaxis(pixels[::-1], (0, 1), (1, 0))[:, :, None], np.eye(4))


def _damage_png(data: bytes, draw: Random) -> tuple[bytes, str]:
    if draw.random() < 0.5:
        return png.damage_chunk(data, draw)
    change = draw.choice(BYTES)
    return change(data, draw), change.__name__


def png_format(dtype: str, colours: int = 1, palette: bool = False) -> Format:
    """Return PNG, grey, in colour or with a palette."""

    def encode(voxels: npt.NDArray[Any]) -> bytes:
        pixels = np.moveaxis(voxels[:, :, 0], (0, 1), (1, 0))[::-1]
        return png.encode(np.stack([pixels] * colours, -1) if colours > 1 else pixels, palette)

    return Format(".png", encode, _damage_png, decode_png, (dtype,), colours)


FORMATS: dict[str, Format] = {
    "nifti": nifti_format(False),
    "nifti packed": nifti_format(True),
    "nifti of two": nifti_format(False, sequences=2),
    "nifti of two packed": nifti_format(True, sequences=2),
    "nifti big-endian": nifti_format(False, order=">"),
    "nifti-2": nifti_format(False, second=True),
    "nifti-2 packed": nifti_format(True, second=True),
    "mha": text_format(metaimage, ".mha", False),
    "mha packed": text_format(metaimage, ".mha", True),
    "mha of two packed": text_format(metaimage, ".mha", True, sequences=2),
    "nrrd": text_format(nrrd, ".nrrd", False),
    "nrrd packed": text_format(nrrd, ".nrrd", True),
    "nrrd of two": text_format(nrrd, ".nrrd", False, sequences=2),
    "png": png_format("u1"),
    "png of 16 bits": png_format("u2"),
    "png in colour": png_format("u1", colours=3),
}
LABELS = {name: FORMATS[name] for name in FORMATS if "two" not in name and "colour" not in name} | {
    "png with a palette": png_format("u1", palette=True)
}
