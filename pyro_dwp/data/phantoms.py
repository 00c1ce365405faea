"""Phantoms: simulated MRI of heads with a lesion, so that everything runs on a machine without data.

A head is a stack of warped ellipsoids (scalp, bone, fluid, grey matter, white matter, ventricles). Each case has its
own pose, size, tissue contrast, bias field and Rician noise. The two diseases differ in lesion and in sequence:

| disease   | lesion                                               | contrast like                                |
| --------- | ---------------------------------------------------- | -------------------------------------------- |
| `tumour`  | one, large: a core, dark as white matter, in oedema  | FLAIR: fluid dark, oedema as bright as scalp |
| `plaques` | many, small, in white matter near the ventricles     | T2: fluid bright, plaques hardly darker      |

No threshold finds the lesion: a network has to look at its place and its surroundings.

Axis letters: D H W voxels. Lengths without a unit are fractions of the half edge of the field of view.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal, final, get_args

import numpy as np
import torch
from annotated_types import Ge, Le
from pydantic import NonNegativeInt, PositiveFloat
from torch import Tensor
from torch.nn import functional as F

from pyro_dwp.checks import checked
from pyro_dwp.data.layouts import CaseSource, pick
from pyro_dwp.data.scan import Scan

Edge = Annotated[int, Ge(8), Le(256)]
Disease = Literal["tumour", "plaques"]
OVERSAMPLING = 2  # points along each axis that a voxel averages: partial volume
BIAS = 0.25  # standard deviation of the log bias field
NOISE = 0.05  # standard deviation of the noise in each of the two channels of the receiver, in units of intensity
TEXTURE = 0.04  # standard deviation of the intensity within one tissue
JITTER = 0.06  # standard deviation of a tissue's mean intensity between cases


@dataclass(frozen=True)
class Contrast:
    """Mean intensity of each tissue, in units in which the brightest is about 1."""

    scalp: float
    bone: float
    fluid: float
    grey: float
    white: float
    rim: float
    core: float


CONTRASTS: dict[str, Contrast] = {
    "tumour": Contrast(scalp=0.85, bone=0.1, fluid=0.2, grey=0.62, white=0.5, rim=0.8, core=0.45),
    "plaques": Contrast(scalp=0.6, bone=0.1, fluid=0.95, grey=0.65, white=0.42, rim=0.8, core=0.8),
}


@final
class Phantoms(CaseSource):
    """Simulated heads with one disease; a case depends only on seed, disease, shape and its number.

    Args:
        disease: "tumour" (one large lesion with an irregular border) or "plaques" (many small ones).
        cases: number of cases, 1 to 10,000.
        shape: voxels along each axis, 8 to 256 each.
        seed: seed of all cases; another seed gives other heads.
        spacing: distance between voxels along each axis, in mm.
        flat: whether a case is an image, the slice of a head that has the most lesion, for networks of two dimensions.

    Raises:
        ConfigError: if the disease is unknown, or a number is out of range.

    Example:
        >>> phantoms = Phantoms(disease="tumour", cases=2, shape=(16, 16, 16))
        >>> phantoms.names(), phantoms.load("tumour_001").image.shape
        (['tumour_000', 'tumour_001'], torch.Size([1, 16, 16, 16]))
    """

    @checked
    def __init__(
        self,
        disease: Disease = "tumour",
        cases: Annotated[int, Ge(1), Le(10_000)] = 30,
        shape: tuple[Edge, Edge, Edge] = (32, 32, 32),
        seed: NonNegativeInt = 0,
        spacing: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (6.0, 6.0, 6.0),
        flat: bool = False,
    ) -> None:
        self.disease, self.cases, self.shape, self.seed = disease, cases, shape, seed
        self.spacing, self.flat = spacing, flat

    def names(self) -> list[str]:
        """Return disease and number of each case."""
        return sorted(self._numbers)

    def load(self, name: str) -> Scan:
        """Simulate one case; its affine puts the centre of the field of view at 0 mm."""
        number = pick(self._numbers, name, "A set of phantoms")
        rng = np.random.default_rng([self.seed, number, get_args(Disease).index(self.disease)])
        image, label = simulate(self.disease, self.shape, rng)
        affine = np.diag([*self.spacing, 1.0])
        affine[:3, 3] = [-step * (edge - 1) / 2 for step, edge in zip(self.spacing, self.shape, strict=True)]
        if self.flat:
            height = int(label.sum(dim=(0, 1)).argmax())
            image, label = image[..., height, None], label[..., height, None]
            affine[2, 3] += height * self.spacing[2]
        return Scan(name, image[None], label, affine)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {f"{self.disease}_{number:03d}": number for number in range(self.cases)}


def simulate(disease: str, shape: tuple[int, ...], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Simulate one head.

    Args:
        disease: "tumour" or "plaques".
        shape: (D, H, W), in voxels.
        rng: source of all that differs between cases.

    Returns:
        Image, float32 (D, H, W), 0 in air and in arbitrary units elsewhere; label, int64 (D, H, W), 1 in the lesion.
    """
    fine = tuple(OVERSAMPLING * edge for edge in shape)
    position = _head_coordinates(fine, rng)
    tissues, ventricles = _anatomy(position, rng)
    white = tissues["white"]
    brain = tissues["grey"] | white
    rim, core = (_tumour if disease == "tumour" else _plaques)(position, brain, white, ventricles, rng)
    tissues |= {"rim": rim, "core": core}
    intensity = torch.zeros(fine)
    for tissue, region in tissues.items():
        intensity[region] = getattr(CONTRASTS[disease], tissue) * (1 + JITTER * rng.standard_normal())
    intensity = _coarsen(intensity) + TEXTURE * _smooth_noise(shape, 3, rng)
    image = _acquire(intensity, rng) * (_coarsen(tissues["scalp"].float()) > 0)
    share = _coarsen((rim | core).float())
    return image, ((share >= 0.5) | (share == share.max())).long()


def _head_coordinates(shape: tuple[int, ...], rng: np.random.Generator) -> Tensor:
    """Return each point's position in the head's own frame, (3, D, H, W): the scalp is the unit sphere."""
    axes = [(torch.arange(edge, dtype=torch.float32) + 0.5) * 2 / edge - 1 for edge in shape]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    skew = np.zeros((3, 3))
    skew[np.triu_indices(3, 1)] = rng.normal(0, 0.12, 3)  # radians
    rotation = torch.linalg.matrix_exp(torch.from_numpy(skew - skew.T)).float()
    radii = torch.from_numpy(rng.uniform((0.76, 0.85, 0.74), (0.88, 0.96, 0.86))).float()
    centre = torch.from_numpy(rng.uniform(-0.04, 0.04, 3)).float()
    turned = torch.einsum("ab,b...->a...", rotation, points - centre[:, None, None, None])
    return turned / radii[:, None, None, None]


def _anatomy(position: Tensor, rng: np.random.Generator) -> tuple[dict[str, Tensor], Tensor]:
    """Return regions, outermost first, of which the last that holds a point wins; and the ventricles."""
    shape = tuple(position.shape[1:])
    radius = _length(position)
    folds = 0.05 * _smooth_noise(shape, 7, rng)
    innermost = rng.uniform(0.6, 0.68)
    ventricles = torch.zeros(shape, dtype=torch.bool)
    size = torch.from_numpy(rng.uniform((0.07, 0.2, 0.1), (0.13, 0.34, 0.18))).float()
    for side in (-1, 1):
        offset = position - torch.tensor([side * 0.15, 0.0, 0.05])[:, None, None, None]
        ventricles |= _length(offset / size[:, None, None, None]) + folds < 1
    brain = radius + folds < 0.8
    tissues = {
        "scalp": radius < 1,
        "bone": radius < 0.92,
        "fluid": (radius < 0.84) & (~brain | ventricles),
        "grey": brain & ~ventricles,
        "white": (radius + folds < innermost) & ~ventricles,
    }
    return tissues, ventricles


def _tumour(
    position: Tensor, brain: Tensor, white: Tensor, ventricles: Tensor, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Return the oedema and the core of one tumour."""
    centre, size = _point_in(position, white, rng), rng.uniform(0.25, 0.42)
    irregular = torch.exp(0.25 * _smooth_noise(tuple(brain.shape), 6, rng))
    distance = _length(position - centre) / size * irregular
    lesion = brain & (distance < 1)
    core = lesion & (distance < rng.uniform(0.3, 0.6))
    return lesion & ~core, core


def _plaques(
    position: Tensor, brain: Tensor, white: Tensor, ventricles: Tensor, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Return the plaques, half of them near the ventricles, and an empty core."""
    lesion = torch.zeros_like(white)
    near = white & (F.max_pool3d(ventricles[None].float(), 5, stride=1, padding=2)[0] > 0)
    for number in range(int(rng.integers(10, 25))):
        place = near if number % 2 and near.any() else white
        centre = _point_in(position, place, rng)
        radii = torch.from_numpy(rng.uniform(0.06, 0.15, 3)).float()[:, None, None, None]
        lesion |= _length((position - centre) / radii) < 1
    return lesion & white, torch.zeros_like(white)


def _length(vectors: Tensor) -> Tensor:
    return vectors.square().sum(0).sqrt()


def _point_in(position: Tensor, region: Tensor, rng: np.random.Generator) -> Tensor:
    """Return the position, (3, 1, 1, 1), of a random point of a region."""
    inside = region.flatten().nonzero().flatten()
    chosen = inside[int(rng.integers(len(inside)))]
    return position.flatten(1)[:, chosen][:, None, None, None]


def _smooth_noise(shape: tuple[int, ...], knots: int, rng: np.random.Generator) -> Tensor:
    """Return a random field of mean 0 and about unit variance that varies over 1 / knots of an edge."""
    coarse = torch.from_numpy(rng.standard_normal((knots, knots, knots))).float()[None, None]
    return 1.6 * F.interpolate(coarse, size=shape, mode="trilinear", align_corners=True)[0, 0]


def _coarsen(fine: Tensor) -> Tensor:
    return F.avg_pool3d(fine[None], OVERSAMPLING)[0]


def _acquire(intensity: Tensor, rng: np.random.Generator) -> Tensor:
    """Add what a scanner adds: a bias field, Rician noise and a gain of its own."""
    biased = intensity * torch.exp(BIAS * _smooth_noise(tuple(intensity.shape), 2, rng))
    real, imaginary = torch.from_numpy(rng.normal(0, NOISE, (2, *intensity.shape))).float()
    gain = float(rng.uniform(200, 1200))
    return gain * torch.hypot(biased + real, imaginary)
