"""All scans of a run, read and checked before it starts, so that none stops it later.

Each file is read once. Cases to learn from are kept as the network will see them; of the others, such as test scans, only facts
about their grids are kept.
"""

import math
import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pyro_dwp.data.layouts import CaseSource
from pyro_dwp.data.shelf import shelve
from pyro_dwp.data.transforms import Prepared, Preprocess
from pyro_dwp.errors import DataError

ENLARGED = 8.0  # a note names scans with more than this many voxels on the network's grid for each voxel of their crop
ELONGATED = 4.0  # a note names scans whose voxels on the network's grid are longer than this many widths
NAMED = 5  # cases that a note or an error lists


@dataclass(frozen=True, eq=False)
class CaseReport:
    """What `check_cases` found.

    Args:
        grids: case → voxels along each axis of the network's grid.
        voxels: case → edges of these voxels, in mm.
        notes: lines to print; none of them stops a run.
        prepared: the cases that were to be kept, by name.
    """

    grids: dict[str, tuple[int, ...]]
    voxels: dict[str, tuple[float, ...]]
    notes: tuple[str, ...]
    prepared: dict[str, Prepared]

    def describe(self) -> str:
        """Return the grid and the notes, one line each."""
        return "\n".join([self.describe_grid(), *self.notes])

    def describe_grid(self) -> str:
        """Say in one line on which grid the network works, in voxels and mm.

        Example:
            >>> CaseReport({"a": (32, 48, 32)}, {"a": (1.0, 0.9, 1.25)}, (), {}).describe_grid()
            'Grid: 32 x 48 x 32 voxels of 1 x 0.9 x 1.25 mm (left-right, back-front, foot-head)'
        """
        edges, sizes = (list(zip(*facts.values(), strict=True)) for facts in (self.grids, self.voxels))
        grid = " x ".join(f"{min(c)}" if min(c) == max(c) else f"{min(c)}-{max(c)}" for c in edges)
        size = " x ".join(f"{statistics.median(column):.3g}" for column in sizes)
        several = any(max(column) > 1.005 * min(column) for column in sizes)
        median = f", median of {len(self.voxels)} scans" if several else ""
        return f"Grid: {grid} voxels of {size} mm (left-right, back-front, foot-head{median})"


def check_cases(
    source: CaseSource,
    names: Sequence[str],
    preprocess: Preprocess,
    classes: int,
    channels: int | None = None,
    keep: Collection[str] = (),
    labelled: bool = True,
) -> CaseReport:
    """Read every case of a run once, and find what would stop it later.

    Args:
        source: of the cases.
        names: of all cases of the run: to learn from, to validate with and to test on.
        preprocess: from a scan's grid to the network's.
        classes: of the network, background included.
        channels: of the network; None takes those of the first case.
        keep: names of the cases whose prepared form the report holds.
        labelled: whether each case needs a label; otherwise none is looked at.

    Returns:
        Notes to print, facts about the grids, and the prepared cases.

    Raises:
        DataError: naming the first file that cannot be used, and why: unreadable, not finite, without a label, with a label that
            is not a class of the network, or with another number of channels. The names of other such cases follow.
    """
    grids, voxels, prepared = {}, {}, {}
    empty, enlarged, elongated, lost = [], [], [], []
    failures: dict[str, DataError] = {}
    for name in names:
        try:
            scan = source.load(name)
            scan = scan if labelled else replace(scan, label=None)
            if scan.label is None and labelled:
                raise DataError(f"Case {name} has no label, which training and scoring need. Name a folder of labels.")
            if channels is not None and len(scan.image) != channels:
                raise DataError(
                    f"{scan.image_place} has {len(scan.image)} channel(s), but the network or the first case has {channels}. "
                    "Leave the case out, or set the network's in_channels."
                )
            channels = len(scan.image)
            if name in keep:
                case = preprocess.apply(scan, classes)
                truth, box, grid = case.label, case.box, tuple(case.image.shape[1:])
                prepared[name] = shelve(case)
                lost += [f"{label} of {name}" for label in case.lost]
            else:
                truth, box = preprocess.mapped_label(scan, classes), preprocess.box(scan)
                grid = preprocess.grid_shape(scan, box)
        except DataError as error:
            failures[name] = error
            continue
        extent = np.array([stop - start for start, stop in box])
        sides = extent * scan.spacing / grid
        grids[name], voxels[name] = grid, tuple(sides.tolist())
        if truth is not None and not truth.any() and not (name in prepared and prepared[name].lost):
            empty.append(name)
        if math.prod(grid) > ENLARGED * math.prod(extent):
            enlarged.append(f"{name} ({' x '.join(map(str, extent))})")
        across = [side for side, edge in zip(sides, grid, strict=True) if edge > 1]  # a single slice has no neighbour
        if across and max(across) > ELONGATED * min(across):
            elongated.append(f"{name} ({' x '.join(f'{side:.3g}' for side in sides)} mm)")
    if failures:
        first, *others = failures
        more = f" {len(others)} more of {len(names)} scans cannot be used: {_some(others)}." if others else ""
        raise DataError(f"{failures[first]}{more}") from failures[first]
    notes = {
        "labels without any foreground": empty,
        "classes that have no voxel on the network's grid, so that nothing can be learned about them": lost,
        f"scans with over {ENLARGED:g} times as many voxels on the network's grid, so that scores say little": enlarged,
        f"scans whose voxels on the network's grid are over {ELONGATED:g} times as long as wide": elongated,
    }
    told = tuple(f"Note: {what} ({len(found)}): {_some(found)}" for what, found in notes.items() if found)
    return CaseReport(grids, voxels, told, prepared)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (" …" if len(names) > NAMED else "")
