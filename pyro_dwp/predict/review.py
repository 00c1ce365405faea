"""What a prediction says about itself, without a truth: expected Dice, volumes with intervals, and where to look first.

Cases come in the order of their predicted Dice, the lowest first; slices of a case in that of the volume that is expected to be
wrong, Σ_voxels (1 - probability of the predicted class). Slices lie across the axis of widest spacing and are counted from 0,
from the left, the back or the foot.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from pyro_dwp.data import Scan
from pyro_dwp.files import write_text
from pyro_dwp.metrics import SMALLEST, interval, predicted_dice, tempered
from pyro_dwp.predict.calibrate import Calibration, dice_sums, structure_volumes
from pyro_dwp.predict.posterior import Prediction

AXES = ("left-right", "back-front", "foot-head")
SLICES = 5  # of a case
FIRST = 5  # cases that are printed
FILE = "review.csv"

Row = Mapping[str, float | None]


@dataclass(frozen=True)
class SliceReview:
    """A slice and how much of it is expected to be wrong.

    Args:
        axis: across which it lies, such as "foot-head".
        index: along this axis, from 0.
        wrong_ml: expected volume of wrong voxels, in ml.
    """

    axis: str
    index: int
    wrong_ml: float


@dataclass(frozen=True)
class CaseReview:
    """What a prediction says about itself.

    Args:
        case: its name.
        scores: `predicted_dice`, the mean over the structures that the mask or the probabilities have; and of each structure
            `predicted_volume_ml`; `volume_low_ml` and `volume_high_ml`, calibrated if there were validation scans and the
            posterior's if not; `posterior_volume_low_ml` and `posterior_volume_high_ml`, None for a single sample. With several
            structures the volumes end in _NAME, and `predicted_dice_NAME` follows, None for one that is not there.
        wrong_ml: expected volume of wrong voxels, in ml.
        slices: the most doubtful ones, the worst first.
    """

    case: str
    scores: dict[str, float | None]
    wrong_ml: float
    slices: tuple[SliceReview, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        slices = [asdict(found) for found in self.slices]
        return {"case": self.case, "predicted_dice": self.scores["predicted_dice"], "slices": slices}

    def describe(self) -> str:
        """Return case, predicted Dice and worst slices, such as "a: Dice 0.31, foot-head 12, 13, 11"; slices count from 1."""
        places = ", ".join(str(found.index + 1) for found in self.slices)
        return f"{self.case}: Dice {self.scores['predicted_dice']:.2f}, {self.slices[0].axis} {places}"


def review_case(
    scan: Scan, prediction: Prediction, structures: Mapping[str, Sequence[int]], calibration: Calibration
) -> CaseReview:
    """Review a prediction on its scan's grid, a slice of its maps at a time.

    The Dice is predicted from the probabilities before the temperature, and multiplied by the ratio of `Calibration`.

    Args:
        scan: that was predicted.
        prediction: maps over (D, H, W).
        structures: name → classes.
        calibration: of the run.
    """
    axis = widest_axis(scan.shape, scan.spacing)
    sums = {name: torch.zeros(3, dtype=torch.float64) for name in structures}
    wrong = torch.zeros(scan.shape[axis], dtype=torch.float64)
    for depth, (p, mask) in enumerate(zip(prediction.probability.unbind(1), prediction.mask, strict=True)):
        doubt = (1 - p.gather(0, mask[None])[0]).double().cpu() * scan.voxel_ml
        if axis == 0:
            wrong[depth] = doubt.sum()
        else:
            wrong += doubt.sum(2 - axis)
        for name, classes in structures.items():
            sums[name] += dice_sums(tempered(p, 1 / calibration.temperature), mask, classes)
    worst = wrong.argsort(descending=True, stable=True)[:SLICES].tolist()
    slices = tuple(SliceReview(AXES[axis], index, float(wrong[index])) for index in worst)
    scores = dice_scores({name: found.tolist() for name, found in sums.items()}, calibration.dice_ratios)
    for name, classes in structures.items():
        samples = structure_volumes(prediction, classes) * scan.voxel_ml
        found = volume_scores(samples, name, calibration)
        scores |= {column(key, name, structures): value for key, value in found.items()}
    return CaseReview(scan.name, scores, float(wrong.sum()), slices)


def dice_scores(
    sums: Mapping[str, Sequence[float]], ratios: Mapping[str, float] | None = None
) -> dict[str, float | None]:
    """Return `predicted_dice` and, with several structures, `predicted_dice_NAME`.

    Args:
        sums: structure → Σ p in its mask, Σ p, voxels of its mask.
        ratios: structure → factor of its Dice, see `Calibration`; None changes nothing.

    Example:
        >>> dice_scores({"whole": (3.0, 4.0, 4), "core": (0.0, 0.1, 0)})
        {'predicted_dice': 0.75, 'predicted_dice_whole': 0.75, 'predicted_dice_core': None}
    """
    there = {name: mask > 0 or expected >= SMALLEST for name, (_, expected, mask) in sums.items()}
    ratio = {name: (ratios or {}).get(name, 1.0) for name in sums}
    found = {n: min(1.0, ratio[n] * predicted_dice(*values)) if there[n] else None for n, values in sums.items()}
    mean = fmean([value for value in found.values() if value is not None] or [1.0])
    several = {f"predicted_dice_{name}": value for name, value in found.items()} if len(found) > 1 else {}
    return {"predicted_dice": mean} | several


def volume_scores(samples: Tensor, structure: str, calibration: Calibration) -> dict[str, float | None]:
    """Return the predicted volume of a structure and the ends of its intervals, in ml.

    Args:
        samples: volume under each sampled network, (S,).
        structure: its name.
        calibration: of the run.
    """
    mean = float(samples.mean())
    own = interval(samples) or (None, None)
    low, high = calibration.volume_interval(structure, mean) or own
    ends = {"volume_low_ml": low, "volume_high_ml": high}
    return (
        {"predicted_volume_ml": mean} | ends | {"posterior_volume_low_ml": own[0], "posterior_volume_high_ml": own[1]}
    )


def coverage_scores(scores: Row, true: Mapping[str, float], voxel_ml: float = 0.0) -> dict[str, float | None]:
    """Return the true volume of each structure, and whether the intervals cover it: 1 or 0, None without an interval.

    A true volume is a whole number of voxels and the ends of an interval are not, so half a voxel beyond them counts as covered.
    Otherwise no posterior's interval would cover a structure that is not there, as no probability is exactly 0.

    Args:
        scores: of a `CaseReview`.
        true: structure → volume in ml.
        voxel_ml: volume of a voxel in ml.
    """
    found: dict[str, float | None] = {}
    half = voxel_ml / 2
    for name, volume in true.items():
        found[column("volume_ml", name, true)] = volume
        for kind in ("volume", "posterior_volume"):
            low, high = (scores[column(f"{kind}_{end}_ml", name, true)] for end in ("low", "high"))
            covered = None if low is None or high is None else float(low - half <= volume <= high + half)
            found[column(f"{kind}_covered", name, true)] = covered
    return found


def column(key: str, structure: str, structures: Mapping[str, Any]) -> str:
    """Return the name of a structure's column: KEY, or KEY_STRUCTURE if there are several."""
    return key if len(structures) == 1 else f"{key}_{structure}"


def widest_axis(shape: Sequence[int], spacing: Sequence[float]) -> int:
    """Return the axis of widest spacing, the last of those that agree to a micrometre; of a single slice, the one across it.

    Args:
        shape: (D, H, W).
        spacing: distance between voxels along each axis, in mm.
    """
    return max(range(3), key=lambda axis: (shape[axis] == 1, round(spacing[axis], 3), axis))


def ranked(cases: Sequence[CaseReview]) -> list[CaseReview]:
    """Return reviews of cases, that of the lowest predicted Dice first."""
    return sorted(cases, key=lambda review: review.scores["predicted_dice"] or 0.0)


def describe_review(cases: Sequence[CaseReview]) -> str:
    """Return the lines that say which cases and slices to look at first."""
    first = ranked(cases)[:FIRST]
    return "\n  ".join(["Look here first (predicted Dice; slices from 1):", *(case.describe() for case in first)])


def write_review(folder: Path, cases: Sequence[CaseReview]) -> Path:
    """Write review.csv, a row for each case in the order to look at them, and return its path.

    Args:
        folder: of the results.
        cases: at least one.

    Raises:
        DataError: if the file cannot be written.
    """
    rows = ranked(cases)
    stream = io.StringIO()
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(["case", "predicted_dice", "axis", "slices", "wrong_ml", *list(rows[0].scores)[1:]])
    for row in rows:
        places = " ".join(str(found.index + 1) for found in row.slices)
        first, *others = (None if score is None else f"{score:.6g}" for score in row.scores.values())
        table.writerow([row.case, first, row.slices[0].axis, places, f"{row.wrong_ml:.6g}", *others])
    return write_text(folder / FILE, stream.getvalue())
