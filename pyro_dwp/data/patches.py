r"""Random patches of cases that are too large for one step, weighted so that their sums are unbiased for the whole case.

Along an axis of n voxels, there are n − p + 1 patches of p ≤ n voxels. Only one of them holds the first voxel, but up to p hold a
voxel in the middle. So an offset is drawn uniformly from the n + p − 1 at which a patch touches the axis, −(p − 1) to n − 1, and
the patch is moved inside: start = min(max(offset, 0), n − p). It has p voxels of the scan, without padding, and c(v), the number
of offsets whose patch holds voxel v, is at least p. With weights (n + p − 1) / c(v) along each axis, whose product is the weight
of a voxel,

    E Σ_{v in patch} weight(v) f(v) = Σ_{v in case} f(v)      for every f that does not depend on the patch,

and E Σ weight = the voxels of the case. So the expected data term of a voxel-wise likelihood is that of the whole case at these
logits. *Not unbiased*: what is not a sum over voxels, such as the soft Dice, of which the sums are unbiased but not their ratio;
and a network's logits within a patch are not those within the whole case, since it sees less around a voxel and instance
normalisation averages over the patch.

Axis letters: C channel, d h w voxels of the network's grid.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from pyro_dwp.data.transforms import Edge, Prepared

Patch = tuple[Edge, Edge, Edge]
"""Edges of a patch, in voxels of the network's grid; a longer edge than a case's is cut to it."""


def draw_patch(case: Prepared, size: Patch | None) -> Prepared:
    """Return a random patch of a case, see `cut_patch`; all randomness comes from torch's global generator.

    Args:
        case: with a label.
        size: edges of the patch; None returns the case as it is.

    Example:
        >>> import numpy as np
        >>> case = Prepared("a", torch.rand(1, 9, 9, 4), torch.ones(9, 9, 4).long(), np.eye(4), (9, 9, 4), ((0, 9),) * 3)
        >>> draw_patch(case, (6, 6, 6)).image.shape
        torch.Size([1, 6, 6, 4])
    """
    if size is None:
        return case
    edges = _edges(case, size)
    offsets = [int(torch.randint(1 - p, n, ())) for n, p in zip(case.image.shape[1:], edges, strict=True)]
    return cut_patch(case, edges, offsets)


def cut_patch(case: Prepared, size: Sequence[int], offsets: Sequence[int]) -> Prepared:
    """Return the patch at these offsets, with the weights of its voxels; only for training.

    `box` and `affine` still tell of the whole case.

    Args:
        case: with a label.
        size: edges of the patch, voxels; a longer edge than the case's is cut to it.
        offsets: along each axis, from −(p − 1) to n − 1 for an edge of p of n voxels.
    """
    assert case.label is not None  # only cases to learn from are cut
    edges, grid = _edges(case, size), case.image.shape[1:]
    starts = [min(max(offset, 0), n - p) for offset, n, p in zip(offsets, grid, edges, strict=True)]
    inside = tuple(slice(start, start + p) for start, p in zip(starts, edges, strict=True))
    axes = [axis_weights(n, p)[part] for n, p, part in zip(grid, edges, inside, strict=True)]
    weight = math.prod(torch.meshgrid(*axes, indexing="ij"), start=torch.ones(()))
    return replace(case, image=case.image[(slice(None), *inside)], label=case.label[inside], weight=weight)


def axis_weights(voxels: int, edge: int) -> Tensor:
    """Return the weight of each voxel of an axis, (n,): offsets in all, over those whose patch holds it.

    Args:
        voxels: n, of the axis.
        edge: p ≤ n, of the patch.

    Example:
        >>> axis_weights(5, 2).tolist(), axis_weights(3, 3).tolist()
        ([3.0, 2.0, 3.0, 2.0, 3.0], [1.0, 1.0, 1.0])
    """
    v, last = torch.arange(voxels), voxels - edge
    starts = v.clamp(max=last) - (v - edge + 1).clamp(min=0) + 1
    ends = (v < edge).long() + (v >= last).long()  # the first and the last start, to each of which p offsets lead
    return (voxels + edge - 1) / (starts + (edge - 1) * ends)


def _edges(case: Prepared, size: Sequence[int]) -> tuple[int, ...]:
    return tuple(min(p, n) for p, n in zip(size, case.image.shape[1:], strict=True))
