"""Random variations of a training case: another pose and other intensities, the same anatomy.

A pose turns a case about the foot-head axis, so it moves voxels within a slice and slices along the third axis, apart from each
other. Interpolation is therefore a 2-D one, of which the slices are the channels, and a 1-D one: the same numbers as trilinear
interpolation for a fifth of its time. Everything is computed where the case lies, so that a GPU varies its own batches.

All randomness comes from torch's global generator on the CPU, so that a resumed training sees the variations that an unbroken
one would have seen. Axis letters: C channel, d h w voxels of the network's grid.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le, Lt
from torch import Tensor

from pyro_dwp.checks import checked_dataclass
from pyro_dwp.data.transforms import Prepared, on_device

Fraction = Annotated[float, Ge(0), Lt(1)]
Probability = Annotated[float, Ge(0), Le(1)]


@checked_dataclass
class Augment:
    """Flip, move and relight a case at random, anew at each call.

    The image is interpolated linearly and what lies outside repeats the border; the label takes the nearest voxel, and so does
    the weight of a patch's voxels. The grid keeps its shape, and slices keep their direction, so that a volume of one slice is
    augmented as the image that it is. Only for training: `box` and `affine` of the case no longer say where its voxels lie.

    Args:
        flip: probability of exchanging left and right.
        rotation: largest angle about the foot-head axis, in degrees either way, on a grid whose voxels count as square.
        zoom: largest change of size along each axis, as a fraction either way.
        shift: largest move along each axis, as a fraction of the grid's edge either way.
        contrast: largest change of a channel's contrast, as a fraction either way.
        brightness: largest change of a channel's mean, in standard deviations of the head's intensities either way.

    Raises:
        ConfigError: if a number is outside its range.

    Example:
        >>> import numpy as np
        >>> case = Prepared("a", torch.rand(1, 8, 8, 4), torch.ones(8, 8, 4).long(), np.eye(4), (8, 8, 4), ((0, 8),) * 3)
        >>> augmented = Augment()(case)
        >>> augmented.image.shape, augmented.label.unique().tolist()
        (torch.Size([1, 8, 8, 4]), [1])
    """

    flip: Probability = 0.5
    rotation: Annotated[float, Ge(0), Le(180)] = 15.0
    zoom: Fraction = 0.15
    shift: Fraction = 0.05
    contrast: Fraction = 0.1
    brightness: Annotated[float, Ge(0), Le(10)] = 0.1

    def __call__(self, case: Prepared) -> Prepared:
        """Return a varied copy of a case, where the case lies.

        Args:
            case: with a label, on the network's grid.
        """
        assert case.label is not None  # only cases to learn from are varied
        channels, *grid = case.image.shape
        flipped = float(torch.rand(())) < self.flip
        angle, *pose = (2 * torch.rand(7) - 1).tolist()
        zoom = [1 + self.zoom * way for way in pose[:3]]
        shift = [self.shift * edge * way for edge, way in zip(grid, pose[3:], strict=True)]
        move = Move(grid, flipped, math.radians(self.rotation) * angle, zoom, shift, case.image.device)
        light = on_device(2 * torch.rand(2, channels, 1, 1, 1) - 1, case.image.device)
        return replace(
            case,
            image=move.linear(case.image) * (1 + self.contrast * light[0]) + self.brightness * light[1],
            label=move.nearest(case.label[None].float())[0].long(),
            weight=None if case.weight is None else move.nearest(case.weight[None])[0],
        )


class Move:
    """A change of pose: a voxel at x, in voxels from the grid's centre, takes the value at F R (Z x + s).

    F exchanges left and right or does nothing, R turns about the third axis, Z zooms and s shifts. What lies outside the grid
    repeats its border.

    Args:
        grid: (d, h, w).
        flip: whether left and right are exchanged.
        angle: of R, from the first axis to the second, in radians.
        zoom: diagonal of Z.
        shift: s, in voxels.
        device: of the volumes to move.
    """

    def __init__(
        self,
        grid: Sequence[int],
        flip: bool,
        angle: float,
        zoom: Sequence[float],
        shift: Sequence[float],
        device: torch.device,
    ) -> None:
        d, h, w = grid
        sign, cos, sin = -1.0 if flip else 1.0, math.cos(angle), math.sin(angle)
        turn = [[sign * cos, -sign * sin], [sin, cos]]  # F R within a slice
        offset = [row[0] * shift[0] + row[1] * shift[1] for row in turn]
        across = [  # the same in halves of an edge, and with the second axis first, as torch wants it
            [turn[1][1] * zoom[1], turn[1][0] * zoom[0] * d / h, 2 * offset[1] / h],
            [turn[0][1] * zoom[1] * h / d, turn[0][0] * zoom[0], 2 * offset[0] / d],
        ]
        self.plane = F.affine_grid(on_device(torch.tensor([across]), device), [1, 1, d, h], align_corners=False)
        centre = (w - 1) / 2
        self.height = ((torch.arange(w, device=device) - centre) * zoom[2] + shift[2] + centre).clamp(0, w - 1)

    def linear(self, volume: Tensor) -> Tensor:
        """Return a moved copy by linear interpolation.

        Args:
            volume: float32, (C, d, h, w).
        """
        slices = torch.arange(len(self.height), device=volume.device)
        shares = (1 - (self.height - slices[:, None]).abs()).clamp_min(0)  # (from, to)
        return self._within_slices(volume, "bilinear").movedim(1, -1) @ shares

    def nearest(self, volume: Tensor) -> Tensor:
        """Return a moved copy in which each voxel has the value of the nearest one.

        Args:
            volume: float32, (C, d, h, w).
        """
        moved = self._within_slices(volume, "nearest")
        return moved.index_select(1, self.height.round().long()).movedim(1, -1)

    def _within_slices(self, volume: Tensor, mode: str) -> Tensor:
        """Return slices (C, w, d, h) of a volume (C, d, h, w), each moved within itself."""
        slices = volume.movedim(-1, 1)
        moved = F.grid_sample(slices.flatten(0, 1)[None], self.plane, mode, "border", align_corners=False)
        return moved.view(slices.shape)
