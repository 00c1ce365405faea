"""What an anatomist knows and a network does not: a structure is in one piece, has no holes, and is not a speck.

Everything works on the mask, on the scan's own grid, structure by structure, in this order:

1. Holes are filled: background that a structure encloses (in a 2-D image within the plane) takes the most probable class of that
   structure. Another class in there, such as a tumour in a liver, is no hole.
2. Pieces are removed: all but the largest, or those that are too small. A voxel that a structure loses takes the most probable
   class outside that structure, usually the background or what surrounds the piece. Since it may now be a stray piece of another
   structure, this is repeated until nothing changes; no voxel returns to a class that it has lost. Of pieces of equal size, the
   one that holds the first voxel counts as the largest.

Voxels belong together in a piece if they touch at a face, an edge or a corner, and in a hole if they touch at a face. Only the
box around the foreground is copied. scipy is imported when it is used. Axis letters: C classes, D H W voxels.
"""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
from annotated_types import Ge
from pydantic import BeforeValidator
from torch import Tensor

from pyro_dwp.checks import checked_dataclass, words
from pyro_dwp.data import Preprocess
from pyro_dwp.errors import ConfigError, suggest
from pyro_dwp.metrics import Structures, bounding_box

Mask = npt.NDArray[np.bool_]


@checked_dataclass
class Postprocess:
    """What is done to a mask after the network. Probabilities and uncertainties stay as they are.

    Args:
        largest: keep the largest piece alone, of every structure (true), or of those named.
        fill_holes: fill background that a structure encloses.
        smallest_ml: volume below which a piece of a structure is removed, in ml.
    """

    largest: Annotated[bool | tuple[str, ...], BeforeValidator(words)] = False
    fill_holes: bool = False
    smallest_ml: Annotated[float, Ge(0)] = 0.0

    def check(self, preprocess: Preprocess) -> None:
        """Check that the structures named here are structures of a run.

        Args:
            preprocess: of the run.

        Raises:
            ConfigError: naming the first that is not.
        """
        known = list(preprocess.structures or {})
        for name in self.largest if isinstance(self.largest, tuple) else ():
            if name not in known:
                cure = (
                    suggest(name, known) if known else "Name structures with preprocess.structures, or set it to true."
                )
                raise ConfigError(f"postprocess.largest: there is no structure {name!r}. {cure}")

    def apply(self, probability: Tensor, structures: Structures, voxel: float) -> Tensor:
        """Return the processed mask: the class of each voxel, int64, (D, H, W).

        Args:
            probability: of each class, (C, D, H, W), on the CPU.
            structures: name → classes.
            voxel: volume of a voxel, in ml.

        Example:
            >>> line = torch.tensor([0.9, 0.9, 0.2, 0.8, 0.1])[:, None, None]
            >>> Postprocess(largest=True).apply(torch.stack([1 - line, line]), {"lesion": (1,)}, 1.0).flatten().tolist()
            [1, 1, 0, 0, 0]
        """
        mask = probability.max(dim=0).indices
        if mask.any():
            inside = bounding_box(mask != 0)
            thick = [axis for axis, edge in enumerate(mask.shape) if edge > 1]
            part, values = mask[inside], probability[(slice(None), *inside)].clone()
            self._fill(part, values, structures, thick)
            while self._remove(part, values, structures, voxel):
                pass
        return mask

    def _fill(self, mask: Tensor, values: Tensor, structures: Structures, thick: Sequence[int]) -> None:
        """Fill the holes of each structure in place."""
        for members in structures.values() if self.fill_holes else ():
            chosen = torch.tensor(members)
            hole = _enclosed(torch.isin(mask, chosen).numpy(), thick) & (mask == 0).numpy()
            where = torch.from_numpy(hole)
            mask[where] = chosen[values[chosen][:, where].argmax(0)]

    def _remove(self, mask: Tensor, values: Tensor, structures: Structures, voxel: float) -> bool:
        """Remove pieces of each structure in place, and take their classes from `values`; return whether there were any."""
        changed = False
        for name, members in structures.items():
            alone = self.largest if isinstance(self.largest, bool) else name in self.largest
            if not alone and self.smallest_ml == 0:
                continue
            chosen = torch.tensor(members)
            fewest = round(self.smallest_ml / voxel, 6)  # a piece of exactly this volume stays
            stray = _stray(torch.isin(mask, chosen).numpy(), alone, fewest)
            where = torch.from_numpy(stray)
            left = values[:, where].index_fill_(0, chosen, -1)
            values[:, where], mask[where] = left, left.argmax(0)
            changed |= bool(stray.any())
        return changed


def _enclosed(inside: Mask, axes: Sequence[int]) -> Mask:
    """Return what a mask does not hold and cannot be reached from the faces of the grid across these axes."""
    from scipy.ndimage import label

    regions, count = label(~inside)
    closed = np.arange(count + 1) > 0
    for axis in axes:
        closed[np.take(regions, (0, -1), axis)] = False
    return np.asarray(closed[regions])


def _stray(inside: Mask, alone: bool, fewest: float) -> Mask:
    """Return the pieces of a mask that have fewer voxels, or that are not the largest, if that is to be alone."""
    from scipy.ndimage import label

    pieces, _ = label(inside, np.ones([3] * inside.ndim))
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    gone = (sizes < fewest) | (alone and np.arange(len(sizes)) != sizes.argmax())
    gone[0] = False
    return np.asarray(gone[pieces])
