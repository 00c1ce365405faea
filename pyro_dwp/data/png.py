"""PNG images: pixels as voxels of 1 mm. Only this module uses Pillow, which it imports when a file is opened.

An image is a volume of one slice, like a NIfTI file of two axes. Its columns are the first axis, from left to right, and its rows
the second, from bottom to top, so that figures show it upright. A folder of images is a stack, one slice for each file in natural
order of the names, from the foot upwards. A PNG knows no spacing and no orientation: its affine is the identity.

An image has one channel (greyscale of 1, 8 or 16 bits) or three (colour, of which 8 bits each are read). A label is greyscale,
whose values are the labels, or has a palette, whose indices are. An alpha channel that hides nothing is left out.
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from pyro_dwp.data.paths import CHOOSE, PNG, png_slices, readable
from pyro_dwp.data.png_check import check_png
from pyro_dwp.data.volume import Volume
from pyro_dwp.errors import DataError
from pyro_dwp.files import replacing

GREY = {"1", "L", "I", "I;16", "I;16B"}  # modes of Pillow
ALPHA = {"LA": "L", "RGBA": "RGB"}
LARGEST = 2**16 - 1


def load_png(path: Path, label: bool = False) -> Volume:
    """Read an image, or a stack of them.

    Args:
        path: of a .png file, or of a folder of them.
        label: whether the pixels are labels.

    Returns:
        float32 (1 or 3, D, H, W), with D columns, H rows and W images; of a label the integers as stored, (1, D, H, W).

    Raises:
        DataError: naming the file, if it cannot be read in full, is transparent in places, or has a palette where an image is
            needed or colours where a label is; or if the images of a stack differ in size or channels.
    """
    files = png_slices(path) if path.is_dir() else [path]
    if not files:
        raise DataError(f"The folder {path} has no PNG image. {CHOOSE}")
    slices = [_pixels(file, label) for file in files]
    for file, pixels in zip(files, slices, strict=True):
        if pixels.shape != slices[0].shape:
            raise DataError(
                f"The images of a stack have one size and one number of channels, but {files[0]} has {_size(slices[0])} and "
                f"{file} has {_size(pixels)}. Crop or convert them, or move those of another case elsewhere."
            )
    voxels = np.stack([pixels[:, ::-1].swapaxes(1, 2) for pixels in slices], axis=-1)
    return Volume(path, np.ascontiguousarray(voxels if label else voxels.astype(np.float32)), np.eye(4), None)


def _pixels(path: Path, label: bool) -> npt.NDArray[Any]:
    """Return the channels of one image, (N, rows, columns)."""
    mode, pixels = _decoded(path)
    if mode in ALPHA:
        mode, pixels = ALPHA[mode], _without_alpha(path, pixels)
    if mode not in GREY | {"P" if label else "RGB"}:
        needed = (
            "A label has one integer for each pixel, greyscale or palette" if label else "An image is greyscale or RGB"
        )
        raise DataError(
            f"{needed}, but {path} has the colours of Pillow's mode {mode!r}. Export it again as such a PNG."
        )
    flat = pixels.reshape(*pixels.shape[:2], -1)
    return np.moveaxis(flat.astype(np.uint8) if mode == "1" else flat, -1, 0)


def _decoded(path: Path) -> tuple[str, npt.NDArray[Any]]:
    """Return Pillow's mode of an image, and its pixels: (rows, columns), or (rows, columns, N)."""
    from PIL import Image

    try:
        with readable(path), warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if not path.is_file():  # a pipe, say
                raise ValueError("it is not a file")
            check_png(path)
            with Image.open(path, formats=["PNG"]) as image:
                image.load()
                return image.mode, np.asarray(image)
    except DataError:
        raise
    except Exception as error:  # a damaged file can make Pillow raise almost anything
        raise DataError(
            f"{path} cannot be read as a PNG image ({' '.join(str(error).split()) or repr(error)}). It is truncated, damaged, "
            "too large or of another format; copy or export it again."
        ) from error


def _without_alpha(path: Path, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if (pixels[..., -1] != pixels[..., -1].max()).any():
        raise DataError(f"{path} is transparent in places, and what lies below is unknown. Export it without alpha.")
    return pixels[..., :-1]


def _size(pixels: npt.NDArray[Any]) -> str:
    channels, rows, columns = pixels.shape
    return f"{columns} x {rows} pixels and {channels} channel(s)"


def write_png(path: Path, array: npt.ArrayLike | Tensor, like: Path, deep: bool = False) -> Path:
    """Write whole numbers in the format of a scan: one image, or a folder of slices of the same names.

    Args:
        path: to write, without extension; missing folders are made.
        array: values from 0 to 65535, stored in 8 bits if they fit and else in 16, (D, H, W).
        like: file of the scan, or folder of its slices.
        deep: whether to store them in 16 bits in any case, so that white is 65535.

    Returns:
        The path of the file or the folder.

    Raises:
        DataError: if a value is too large, or a file cannot be written.
    """
    from PIL import Image

    voxels = np.asarray(array.detach().cpu() if isinstance(array, Tensor) else array)
    if voxels.max() > LARGEST:
        raise DataError(
            f"A PNG holds labels up to {LARGEST}, but that of {path.name} has {voxels.max()}. Renumber the labels (label_map)."
        )
    stack = like.is_dir()
    path = path if stack else path.with_name(path.name + PNG)
    stored = voxels.astype(np.uint16 if deep or voxels.max() > 255 else np.uint8)
    names = [path / file.name for file in png_slices(like)] if stack else [path]
    for number, file in enumerate(names):
        with replacing(file) as partial:
            Image.fromarray(np.ascontiguousarray(stored[:, ::-1, number].T)).save(partial, format="PNG")
    return path
