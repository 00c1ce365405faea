"""Random variations of a training case: another pose and other intensities, the same anatomy.

All randomness comes from torch's global generator, so that a resumed training sees the variations that an uninterrupted one would
have seen. MONAI is imported when it is used, since that takes longer than everything else that a script imports.
"""

import math
from dataclasses import replace
from functools import lru_cache
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le, Lt
from torch import Tensor

from pyro_dwp.checks import checked_dataclass
from pyro_dwp.data.transforms import Prepared

Fraction = Annotated[float, Ge(0), Lt(1)]
KEYS = ("image", "label", "weight")
Probability = Annotated[float, Ge(0), Le(1)]


@checked_dataclass
class Augment:
    """Flip, move and relight a case at random, anew at each call, with MONAI.

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
        """Return a varied copy of a case.

        Args:
            case: with a label, on the network's grid.
        """
        assert case.label is not None  # only cases to learn from are varied
        vary = _variation(self, tuple(case.image.shape[1:]))
        vary.set_random_state(seed=int(torch.randint(2**31, ())))
        given = {"image": case.image, "label": case.label[None].float()}
        varied = vary(given if case.weight is None else given | {"weight": case.weight[None]})
        image, label, weight = (torch.as_tensor(varied.get(key, 0)).as_subclass(Tensor) for key in KEYS)
        return replace(
            case, image=image, label=label[0].round().long(), weight=None if case.weight is None else weight[0]
        )


@lru_cache(maxsize=16)
def _variation(ranges: Augment, grid: tuple[int, ...]) -> Any:
    from monai import transforms

    pose = transforms.RandAffined(
        KEYS,
        prob=1.0,
        rotate_range=(0.0, 0.0, math.radians(ranges.rotation)),
        scale_range=(ranges.zoom,) * 3,
        translate_range=tuple(ranges.shift * edge for edge in grid),
        mode=["bilinear", "nearest", "nearest"],
        padding_mode="border",
        allow_missing_keys=True,
    )
    return transforms.Compose(
        [
            transforms.RandFlipd(KEYS, prob=ranges.flip, spatial_axis=0, allow_missing_keys=True),
            pose,
            transforms.RandScaleIntensityd("image", factors=ranges.contrast, prob=1.0, channel_wise=True),
            transforms.RandShiftIntensityd("image", offsets=ranges.brightness, prob=1.0, channel_wise=True),
        ]
    )
