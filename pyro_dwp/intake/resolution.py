"""How coarse a grid may be: the highest Dice that it permits.

A network on a coarse grid cannot draw what lies between its voxels. If it predicted every label of its grid rightly, its mask on
the scan's own grid would still differ from the truth, by the way there (each voxel takes the class with the largest share) and
back (the shares are interpolated, and the largest wins). The Dice of that mask is the highest that the grid permits.

Only the surroundings of the foreground are resampled, so that memory follows the lesion and not the scan. They hold a whole
number of voxels of the coarse grid, as nearly as the scan's own voxels allow.

Axis letters: D H W voxels.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median

import torch
from torch.nn import functional as F

from pyro_dwp.data import Preprocess, Scan
from pyro_dwp.data.structures import classes_of_structures
from pyro_dwp.metrics import dice

Edges = tuple[float, float, float]

LADDER = 1.25  # from one spacing that is tried to the next
MARGIN = 2  # voxels of the coarse grid around the foreground
FEWEST = 48  # voxels that an axis keeps, if it has them; the U-Net halves them three times


def spacings(own: Edges, extent: Edges) -> list[Edges]:
    """Return spacings to try, in mm, coarsest first and the scan's own last.

    The finest axes grow first, up to the others, and then all: thick slices are not made thicker before the voxels are cubes. No
    axis falls below 48 voxels, and one that has fewer keeps them, as thick slices do whose spacing the file does not tell.

    Args:
        own: spacing of the scans, mm.
        extent: of a head, mm.

    Example:
        >>> spacings((1.0, 1.0, 3.0), (75.0, 75.0, 54.0))
        [(1.562, 1.562, 3.0), (1.25, 1.25, 3.0), (1.0, 1.0, 3.0)]
    """
    limits = [max(edge, mm / FEWEST) for edge, mm in zip(own, extent, strict=True)]
    steps = max(0, math.floor(math.log(max(limits) / min(own), LADDER) + 1e-9))
    found: dict[Edges, None] = {}
    for step in range(steps, -1, -1):
        d, h, w = (
            round(min(max(edge, min(own) * LADDER**step), limit), 3) for edge, limit in zip(own, limits, strict=True)
        )
        found[d, h, w] = None
    return list(found)


def permitted_dice(
    scan: Scan,
    spacing: Edges,
    label_map: Mapping[int, int] | None,
    structures: Mapping[str, Sequence[int]] | None,
    classes: int,
) -> dict[str, float]:
    """Return structure → Dice of the truth brought to a spacing and back, for those structures that the case has.

    Args:
        scan: with a label that has foreground.
        spacing: of the network's grid, mm.
        label_map: as in `Preprocess`.
        structures: as in `Preprocess`.
        classes: of the network, background included.
    """
    part = surroundings(scan, spacing)
    preprocess = Preprocess(
        spacing=spacing, crop_to_head=False, label_map=None if label_map is None else dict(label_map)
    )
    truth, prepared = preprocess.mapped_label(part, classes), preprocess.apply(part, classes)
    assert truth is not None and prepared.label is not None  # noqa: PT018 (both follow from the scan's label)
    shares = F.one_hot(prepared.label, classes).movedim(-1, 0).float()
    restored = preprocess.restore(shares, prepared, fill=[1.0] + [0.0] * (classes - 1)).max(dim=0).indices
    found = {}
    for name, members in classes_of_structures(structures, label_map, classes).items():
        own, back = (torch.isin(volume, torch.tensor(members)) for volume in (truth, restored))
        if own.any():
            found[name] = dice(back.long(), own.long())[1]
    return found


def surroundings(scan: Scan, spacing: Edges) -> Scan:
    """Return the part of a scan around its foreground, the mask of which is its image.

    Args:
        scan: with a label that has foreground.
        spacing: of the coarse grid, mm, of whose voxels the part holds a whole number where the scan is large enough.
    """
    assert scan.label is not None  # only labelled cases are asked about
    inside = []
    for axis, (old, new, edge) in enumerate(zip(scan.spacing, spacing, scan.shape, strict=True)):
        held = scan.label.bool().any(dim=max({0, 1, 2} - {axis})).any(dim=min({0, 1, 2} - {axis})).nonzero()
        first, last = int(held[0]), int(held[-1])
        size = min(edge, round((math.ceil((last - first + 1) * old / new) + 2 * MARGIN) * new / old))
        start = min(max(0, (first + last + 1 - size) // 2), edge - size)
        inside.append(slice(start, start + size))
    label = scan.label[tuple(inside)]
    return replace(scan, image=label.bool().float()[None], label=label)


def median_of_worst(found: Sequence[Mapping[str, float]]) -> tuple[str, float]:
    """Return the structure with the lowest median over cases, and that median.

    Args:
        found: structure → Dice, for each case.

    Example:
        >>> median_of_worst([{"whole": 0.9, "core": 0.6}, {"whole": 0.8}])
        ('core', 0.6)
    """
    names = dict.fromkeys(name for scores in found for name in scores)
    medians = {name: median(scores[name] for scores in found if name in scores) for name in names}
    worst = min(medians, key=lambda name: medians[name])
    return worst, medians[worst]
