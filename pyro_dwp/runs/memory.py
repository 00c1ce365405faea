"""What a step of a run needs of memory, measured on scans of any size."""

import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from pyro_dwp.data import FolderPairs, write_volume

Grid = tuple[int, int, int]
Voxel = tuple[float, float, float]
ORGANS = ((0.3, 1000), (0.15, 2000))  # ellipsoids: semi-axes, as fractions of the grid's edges, and intensity
NOISE = 20  # standard deviation of the intensity
UNIT = 1024 if sys.platform == "linux" else 1  # bytes, of ru_maxrss


def measured(function: Callable[[], None]) -> dict[str, float]:
    """Call a function and measure this process, which should have done nothing large before.

    Returns:
        `peak_gib`, the largest memory of the process that was resident at any time, with its libraries and with the pages of
        files that it had mapped; `start_gib`, that before the call; `seconds`.
    """
    before, start = _peak(), time.perf_counter()
    function()
    return {"peak_gib": _peak(), "start_gib": before, "seconds": time.perf_counter() - start}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT / 2**30


def ct_phantoms(folder: Path, shape: Grid, spacing: Voxel, cases: int) -> FolderPairs:
    """Return noisy scans of an organ with a tumour in it, int16 .nii.gz, which another process writes.

    Args:
        folder: for images/ and labels/.
        shape: voxels along each axis.
        spacing: in mm.
        cases: number of scans.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(_write, folder, shape, spacing, cases).result()
    return FolderPairs(folder / "images", folder / "labels")


def _write(folder: Path, shape: Grid, spacing: Voxel, cases: int) -> None:
    affine = np.diag([*spacing, 1.0])
    squares = [np.linspace(-0.5, 0.5, edge, dtype=np.float32) ** 2 for edge in shape]
    for number in range(cases):
        rng, label = np.random.default_rng(number), np.zeros(shape, np.uint8)
        image = np.empty(shape, np.int16)
        for i, square in enumerate(squares[0]):
            radius = np.sqrt(square + squares[1][:, None] + squares[2])
            values = NOISE * rng.standard_normal(radius.shape, np.float32)
            for value, (edge, intensity) in enumerate(ORGANS, 1):
                label[i][radius < edge] = value
                values[radius < edge] += intensity if value == 1 else intensity - ORGANS[value - 2][1]
            image[i] = values.round()
        write_volume(folder / "images" / f"scan_{number}.nii.gz", image, affine, np.int16)
        write_volume(folder / "labels" / f"scan_{number}.nii.gz", label, affine, np.uint8)
