"""NRRD volumes, .nrrd or .nhdr. Only this module uses pynrrd, which it imports when a file is opened."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from pyro_dwp.data.nifti import check_claim, check_padding, inflated, turn_to_ras
from pyro_dwp.data.paths import decoding, read_beside
from pyro_dwp.data.scan import Affine
from pyro_dwp.data.volume import Volume
from pyro_dwp.errors import DataError

ENCODINGS = ("raw", "gzip", "gz")
GZIP = 31  # of zlib
WIDEST = 8  # bytes of a voxel
DEFAULT = "left-posterior-superior"  # where a header does not name its space
SHORT = {"LPS": DEFAULT, "RAS": "right-anterior-superior", "LAS": "left-anterior-superior"}
SIGNS = {"right": 1, "left": -1, "anterior": 1, "posterior": -1, "superior": 1, "inferior": -1}


def load_nrrd(
    path: Path, sequences: int | None = 1, dtype: npt.DTypeLike | None = np.float32, like: Volume | None = None
) -> Volume:
    """Read one file to its end and turn it to RAS; see `load_nifti` for the arguments.

    Raises:
        DataError: if pynrrd is missing; if the file is missing, unreadable, truncated or damaged, claims more voxels than it can
            hold or more than 2³⁰, has another number of axes, or a header that does not place its voxels.
    """
    path = Path(path)
    try:
        import nrrd
    except ImportError as error:
        raise DataError(f"{path} needs pynrrd to be read. Install it: pip install 'pyro-dwp[formats]'.") from error
    with decoding(path, "an NRRD volume"), path.open("rb") as file, np.errstate(all="ignore"):
        if not file.peek(1):
            raise ValueError("it is empty")
        header = nrrd.read_header(file)
        content = _content(path, header, file)
        array = nrrd.read_data({**header, "encoding": "raw", "data file": None, "datafile": None}, content)
        check_padding(content.read())
        directions = _directions(header)
        spatial = np.isfinite(directions).all(1)  # the others count sequences or colours
        array = np.moveaxis(array, np.flatnonzero(~spatial), np.arange(spatial.sum(), array.ndim))
        array = array.astype(array.dtype.newbyteorder("=") if dtype is None else dtype, copy=False)
        stored = _affine(header, directions[spatial])
    return turn_to_ras(path, array, stored, sequences, like)


def _content(path: Path, header: Mapping[str, Any], file: BinaryIO) -> BytesIO:
    """Return the bytes of the voxels, unpacked, after checking what the header claims before memory is taken for it."""
    outside = header.get("data file", header.get("datafile"))
    if header["encoding"] not in ENCODINGS:
        raise ValueError(f"its encoding is {header['encoding']}, not raw or gzip")
    packed = header["encoding"] != "raw"
    content = file.read() if outside is None else read_beside(path, outside.removeprefix("./"))
    claimed = check_claim(path, tuple(map(int, header["sizes"])), 1, len(content), packed)
    return BytesIO(inflated(content, claimed * WIDEST, GZIP) if packed else content)


def _directions(header: Mapping[str, Any]) -> npt.NDArray[np.float64]:
    """Return the step along each stored axis, (axes, 3), not finite where an axis is not spatial."""
    if "space directions" in header:
        return np.asarray(header["space directions"], dtype=np.float64)
    steps = np.asarray(header.get("spacings", np.ones(len(header["sizes"]))), dtype=np.float64)
    return np.diag(steps) if np.isfinite(steps).all() else np.full((len(steps), 3), np.nan)


def _affine(header: Mapping[str, Any], directions: npt.NDArray[np.float64]) -> Affine:
    """Return the affine of the spatial axes, RAS mm."""
    space = header.get("space", DEFAULT)
    words = SHORT.get(space, space).split("-")
    if [word for word in words if word not in SIGNS] or len(words) != 3:
        raise ValueError(f"its space is {space!r}, not {DEFAULT} or the like")
    affine, axes = np.eye(4), len(directions)
    affine[: directions.shape[1], :axes] = directions.T
    affine[: directions.shape[1], 3] = header.get("space origin", np.zeros(directions.shape[1]))
    return np.diag([*(SIGNS[word] for word in words), 1.0]) @ affine
