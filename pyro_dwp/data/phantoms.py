"""Phantoms: simulated MRI of heads with a lesion, so that everything runs on a machine without data.

A head is a stack of warped ellipsoids (scalp, bone, fluid, grey matter, white matter, ventricles). Each case has its
own pose, size, tissue contrast, bias field and Rician noise. The two diseases differ in lesion and in sequence:

| disease   | lesion                                               | contrast like                                |
| --------- | ---------------------------------------------------- | -------------------------------------------- |
| `tumour`  | one, large: a core as dark as white matter in oedema | FLAIR: fluid dark, oedema as bright as scalp |
| `plaques` | many, small, in white matter near the ventricles     | T2: fluid bright, plaques hardly darker      |

so that no threshold finds the lesion: its place and its surroundings have to be seen.

Axis letters: D H W voxels. Lengths without a unit are fractions of the half edge of the field of view.
"""

from dataclasses import dataclass
from typing import Literal, final, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pyro_dwp.data.layouts import CaseSource
from pyro_dwp.data.scan import Scan
from pyro_dwp.errors import ConfigError, DataError, suggest

Disease = Literal["tumour", "plaques"]
OVERSAMPLING = 2  # a voxel averages so many points along each axis: partial volume
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
    """Simulated heads with one disease; a case depends on seed, disease, shape and its number alone.

    Args:
        disease: "tumour" (one large lesion with an irregular border) or "plaques" (many small ones).
        cases: number of cases.
        shape: voxels along each axis, 8 or more each.
        seed: of all cases; another seed is another set of heads.
        spacing: distance between voxels along each axis, in mm.

    Raises:
        ConfigError: if the disease is unknown, there is no case, or an edge is too small.

    Example:
        >>> phantoms = Phantoms(disease="tumour", cases=2, shape=(16, 16, 16))
        >>> phantoms.names(), phantoms.load("tumour_001").image.shape
        (['tumour_000', 'tumour_001'], torch.Size([1, 16, 16, 16]))
    """

    def __init__(
        self,
        disease: Disease = "tumour",
        cases: int = 30,
        shape: tuple[int, int, int] = (32, 32, 32),
        seed: int = 0,
        spacing: tuple[float, float, float] = (6.0, 6.0, 6.0),
    ) -> None:
        if disease not in CONTRASTS:
            raise ConfigError(f"There are no phantoms with {disease!r}. {suggest(disease, get_args(Disease))}")
        if cases < 1 or seed < 0 or len(shape) != 3 or min(shape) < 8 or len(spacing) != 3 or min(spacing) <= 0:
            raise ConfigError(
                "Phantoms need one case or more, a seed ≥ 0, three edges of 8 voxels or more, and positive spacings, "
                f"but received cases={cases}, seed={seed}, shape={tuple(shape)}, spacing={tuple(spacing)}."
            )
        self.disease, self.cases, self.shape, self.seed, self.spacing = disease, cases, tuple(shape), seed, spacing

    def names(self) -> list[str]:
        """Return disease and number of each case."""
        return sorted(f"{self.disease}_{number:03d}" for number in range(self.cases))

    def load(self, name: str) -> Scan:
        """Simulate one case; its affine puts the centre of the field of view at 0 mm."""
        names = {f"{self.disease}_{number:03d}": number for number in range(self.cases)}
        if name not in names:
            raise DataError(
                f"These {self.cases} phantoms have no case {name!r}: they are {min(names)} to {max(names)}."
            )
        rng = np.random.default_rng([self.seed, names[name], get_args(Disease).index(self.disease)])
        image, label = simulate(self.disease, self.shape, rng)
        affine = np.diag([*self.spacing, 1.0])
        affine[:3, 3] = [-step * (edge - 1) / 2 for step, edge in zip(self.spacing, self.shape, strict=True)]
        return Scan(name, image[None], label, affine)


def simulate(disease: str, shape: tuple[int, ...], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Simulate one head.

    Args:
        disease: "tumour" or "plaques".
        shape: (D, H, W), in voxels.
        rng: source of everything that differs between cases.

    Returns:
        Image, float32 (D, H, W), 0 in air and in arbitrary units elsewhere; label, int64 (D, H, W), 1 in the lesion.
    """
    fine = tuple(OVERSAMPLING * edge for edge in shape)
    position = _head_coordinates(fine, rng)
    tissues, white, ventricles = _anatomy(position, rng)
    brain = tissues["grey"] | white
    rim, core = (_tumour if disease == "tumour" else _plaques)(position, brain, white, ventricles, rng)
    tissues |= {"rim": rim, "core": core}
    intensity = torch.zeros(fine)
    for tissue, region in tissues.items():
        mean = getattr(CONTRASTS[disease], tissue) * (1 + JITTER * rng.standard_normal())
        intensity[region] = mean
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


def _anatomy(position: Tensor, rng: np.random.Generator) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Return nested regions, outermost first, of which the last that holds a point wins; white matter; ventricles."""
    shape = tuple(position.shape[1:])
    radius = _length(position)
    folds = 0.05 * _smooth_noise(shape, 7, rng)
    white = radius + folds < rng.uniform(0.6, 0.68)
    ventricles = torch.zeros(shape, dtype=torch.bool)
    size = torch.from_numpy(rng.uniform((0.07, 0.2, 0.1), (0.13, 0.34, 0.18))).float()
    for side in (-1, 1):
        offset = position - torch.tensor([side * 0.15, 0.0, 0.05])[:, None, None, None]
        ventricles |= _length(offset / size[:, None, None, None]) + folds < 1
    tissues = {
        "scalp": radius < 1,
        "bone": radius < 0.92,
        "fluid": radius < 0.84,
        "grey": radius + folds < 0.8,
        "white": white,
    }
    tissues["fluid"] = tissues["fluid"] & (~tissues["grey"] | ventricles)
    tissues["grey"], tissues["white"] = tissues["grey"] & ~ventricles, white & ~ventricles
    return tissues, tissues["white"], ventricles


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
    """Return the plaques, and no core; half of them lie near the ventricles."""
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
