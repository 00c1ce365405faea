r"""Random patches of cases that are too large for one step, with more of the foreground, and weights that keep sums unbiased.

A patch has p ≤ n voxels of each axis, without padding. Its starts lie on a lattice: every p/8 voxels, and always the first and
the last one, n − p. A start s is drawn from

    q(s) = (1 − β) u(s) + β (1/K) Σ_k m_k(s) / Σ_t m_k(t)

where m_k(s) are the voxels of class k within the patch at s, and K is the number of foreground classes in the case; without any,
q = u. The spread u is a product over the axes. Along an axis, an inner start has as many shares as it is voxels from the next,
and the two ends have p, because few patches reach the border: every voxel is then drawn with a probability of at least about
p / (n + p) along each axis. With

    π(v) = Σ_s q(s) [v in the patch at s],     weight(v) = 1 / π(v),

(Horvitz and Thompson) it holds, for whatever β < 1 and for every f that does not depend on the patch, that

    E Σ_{v in patch} weight(v) f(v) = Σ_{v in case} f(v).

So the expected data term of a voxel-wise likelihood, and its gradient, are those of the whole case at these logits, however the
patches are balanced. What scales with the voxels of the case takes their number, `Prepared.voxels`, and not Σ weight, which has
that expectation but is random.

*Not unbiased*: what is not a sum over voxels, such as the soft Dice, of which the sums are unbiased but not their ratio; a
network's logits within a patch, which are not those within the whole case, since it sees less around a voxel and instance
normalisation averages over the patch; and an augmented patch, where voxels that come from beyond its border repeat the border.

Axis letters: C channel, d h w voxels of the network's grid, a b c starts along each axis.

References: Horvitz, Thompson 1952, A Generalization of Sampling Without Replacement from a Finite Universe.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated
from weakref import WeakKeyDictionary

import torch
from annotated_types import Ge, Lt
from torch import Tensor

from pyro_dwp.checks import checked_dataclass
from pyro_dwp.data.transforms import Edge, Prepared
from pyro_dwp.errors import ConfigError
from pyro_dwp.metrics import label_values

FINENESS = 8  # starts within an edge of the patch
LATTICE = 64  # starts along an axis, beyond which they lie further apart
MOST_STARTS = 2**24  # that torch can draw from
SLAB = 2**22  # voxels that are counted at a time

_known: WeakKeyDictionary[Prepared, dict["Patches", Tensor]] = WeakKeyDictionary()


@checked_dataclass
class Patches:
    """Which parts of a case a step learns from.

    Args:
        patch: edges of random patches to learn from and of the window to predict with, voxels of the network's grid; a longer
            edge than a case's is cut to it. Null takes whole scans.
        balance: share β of the patches that are drawn for a foreground class, each class alike, where it has most voxels; the
            others are spread evenly. Weights undo the balance in the likelihood.

    Raises:
        ConfigError: if a number is out of range.
    """

    patch: tuple[Edge, Edge, Edge] | None = None
    balance: Annotated[float, Ge(0), Lt(1)] = 0.5

    def edges(self, case: Prepared) -> tuple[int, ...]:
        """Return the edges of a patch of this case, voxels."""
        grid = case.image.shape[1:]
        return tuple(grid) if self.patch is None else tuple(min(p, n) for p, n in zip(self.patch, grid, strict=True))


def draw_patch(case: Prepared, patches: Patches) -> Prepared:
    """Return a random patch of a case, see `cut_patch`; all randomness comes from torch's global generator.

    Args:
        case: with a label.
        patches: how it is drawn; without edges the case is returned as it is.

    Example:
        >>> import numpy as np
        >>> case = Prepared("a", torch.rand(1, 9, 9, 4), torch.ones(9, 9, 4).long(), np.eye(4), (9, 9, 4), ((0, 9),) * 3)
        >>> draw_patch(case, Patches((6, 6, 6))).image.shape
        torch.Size([1, 6, 6, 4])
    """
    if patches.patch is None:
        return case
    chances = start_chances(case, patches)
    drawn = int(torch.multinomial(chances.flatten(), 1))
    return cut_patch(case, patches, [int(i) for i in torch.unravel_index(torch.tensor(drawn), chances.shape)])


def cut_patch(case: Prepared, patches: Patches, chosen: Sequence[int]) -> Prepared:
    """Return one of the patches of a case, with the weights of its voxels; only for training.

    `box` and `affine` still tell of the whole case.

    Args:
        case: with a label.
        patches: how patches are drawn.
        chosen: number of the start along each axis, as in `start_chances`.
    """
    assert case.label is not None  # only cases to learn from are cut
    edges, chance, inside = patches.edges(case), start_chances(case, patches), []
    for n, p, number in zip(case.image.shape[1:], edges, chosen, strict=True):
        starts = patch_starts(n, p)
        first = int(starts[number])
        inside.append(slice(first, first + p))
        chance = torch.tensordot(chance, _holds(starts, p, first, first + p), ([0], [0]))  # abc → bcd → cde → def
    image, label = case.image[(slice(None), *inside)], case.label[tuple(inside)].long()
    return replace(case, image=image, label=label, weight=chance.reciprocal().float(), voxels=case.label.numel())


def start_chances(case: Prepared, patches: Patches) -> Tensor:
    """Return q, the probability of each start, float64 (a, b, c); it is computed once for a case.

    Args:
        case: with a label.
        patches: how patches are drawn.

    Raises:
        ConfigError: if the patch is so small that there are more than 2²⁴ starts.
    """
    known = _known.setdefault(case, {})
    if patches not in known:
        known[patches] = _start_chances(case, patches)
    return known[patches]


def patch_starts(voxels: int, edge: int) -> Tensor:
    """Return the first voxels of the patches along an axis, in ascending order.

    Args:
        voxels: n, of the axis.
        edge: p ≤ n, of the patch.

    Example:
        >>> patch_starts(41, 16).tolist(), patch_starts(3, 3).tolist()
        ([0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 25], [0])
    """
    last = voxels - edge
    stride = min(edge, max(1, edge // FINENESS, math.ceil(last / LATTICE)))
    return torch.tensor([*range(0, last, stride), last])


def _start_chances(case: Prepared, patches: Patches) -> Tensor:
    assert case.label is not None  # only cases to learn from are cut
    axes = [(n, p, patch_starts(n, p)) for n, p in zip(case.image.shape[1:], patches.edges(case), strict=True)]
    if math.prod(len(starts) for _, _, starts in axes) > MOST_STARTS:
        raise ConfigError(
            f"A patch may lie at 2**24 places at most, but {patches.patch} voxels fit at more into {case.name}, "
            f"which has {tuple(case.label.shape)}. Make the patch larger."
        )
    a, b, c = (_spread(starts, p) for _, p, starts in axes)
    spread = a[:, None, None] * b[:, None] * c
    present = [value for value in label_values(case.label) if value]
    if spread.numel() == 1 or not present or not patches.balance:
        return spread
    counts = [_count(case.label, value, [_holds(starts, p, 0, n) for n, p, starts in axes]) for value in present]
    foreground = sum(count / count.sum() for count in counts) / len(present)
    return (1 - patches.balance) * spread + patches.balance * foreground


def _spread(starts: Tensor, edge: int) -> Tensor:
    """Return the probabilities u of the starts along an axis."""
    shares = starts.diff(append=starts[-1:]).double()
    shares[0] = shares[-1] = edge
    return shares / shares.sum()


def _holds(starts: Tensor, edge: int, first: int, end: int) -> Tensor:
    """Return whether the patch at each start holds each voxel from `first` to before `end`, 1 or 0, float64 (starts, voxels)."""
    behind = torch.arange(first, end) - starts[:, None]
    return ((behind >= 0) & (behind < edge)).double()


def _count(label: Tensor, value: int, holds: Sequence[Tensor]) -> Tensor:
    """Return m, the voxels of a class within the patch at each start, (a, b, c); slab by slab, axis after axis."""
    rows = max(1, SLAB // label[0].numel())
    along = torch.zeros(len(holds[0]), *label.shape[1:], dtype=torch.float64)
    for part, held in zip(label.split(rows), holds[0].split(rows, 1), strict=True):
        along += torch.tensordot(held, (part == value).double(), 1)
    return torch.einsum("ahw,bh,cw->abc", along, *holds[1:])
