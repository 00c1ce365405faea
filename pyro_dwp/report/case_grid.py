"""Scan, truth and the predictions of every method, a case a row. Axis letters: D H W voxels."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

from torch import Tensor

from pyro_dwp.data import CaseSource, Preprocess
from pyro_dwp.errors import ConfigError, DataError
from pyro_dwp.report.predictions import predicted_mask
from pyro_dwp.report.results import Experiment, Training
from pyro_dwp.report.slices import densest_slice, overlay, plane

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANEL = 1.7  # edge, inches
ACROSS = 7  # most panels beside each other, on a page
LETTERS = 24  # in a line of a panel's title


@dataclass(frozen=True)
class CaseRow:
    """A case and what each method found in it.

    Args:
        label: of the row.
        image: one channel of the scan, (D, H, W).
        truth: classes, (D, H, W).
        spacing: distance between voxels along D, H, W, in mm.
        predictions: method → its classes, (D, H, W), and its Dice; None where there is no prediction.
    """

    label: str
    image: Tensor
    truth: Tensor
    spacing: Sequence[float]
    predictions: Mapping[str, tuple[Tensor, float] | None]


def case_grid(rows: Sequence[CaseRow]) -> "Figure":
    """Draw rows of cases, columns of scan, truth and each method's prediction with its Dice (figure 7 of Kuzina et al. 2019).

    One slice of each case is drawn, across the axis of widest spacing, where the truth has the most foreground; voxels keep their
    proportions. A missing prediction is an empty panel. A row of more than seven panels is broken into lines.

    Args:
        rows: at least one, with the same methods.

    Raises:
        ConfigError: if there are none.
    """
    from matplotlib.figure import Figure

    if not rows:
        raise ConfigError(
            "A figure of cases needs at least one that the reference has predicted. Finish its run first."
        )
    columns = ["Scan", "Truth", *rows[0].predictions]
    lines = math.ceil(len(columns) / ACROSS)
    width, height = math.ceil(len(columns) / lines), lines * len(rows)
    figure = Figure(figsize=(PANEL * width, PANEL * height + 0.5), layout="constrained")
    grid = figure.subplots(height, width, squeeze=False).reshape(len(rows), -1)
    for axes in grid[:, len(columns) :].flat:
        axes.remove()
    for panels, row in zip(grid[:, : len(columns)], rows, strict=True):
        axis, index = densest_slice(row.truth, row.spacing)
        across, along = (step for number, step in enumerate(row.spacing) if number != axis)
        image = plane(row.image, axis, index)
        overlay(panels[0], image, None)
        overlay(panels[1], image, plane(row.truth, axis, index))
        for axes, found in zip(panels[2:], row.predictions.values(), strict=True):
            if found is None:
                axes.text(0.5, 0.5, "–", ha="center", va="center", transform=axes.transAxes)
                continue
            overlay(axes, image, plane(found[0], axis, index))
            axes.set_xlabel(f"Dice {found[1]:.2f}", fontsize=8)
        for axes, name in zip(panels, columns, strict=True):
            axes.set(xticks=[], yticks=[], aspect=along / across)
            axes.set_title(fill(name, LETTERS) if row is rows[0] or lines > 1 else "", fontsize=8)
        panels[0].set_ylabel(row.label, fontsize=8)
    return figure


def typical_cases(scores: Mapping[str, float], count: int) -> list[str]:
    """Return cases at evenly spaced ranks of a score, from low to high, so that nobody picks them by hand.

    Example:
        >>> typical_cases({"a": 0.9, "b": 0.1, "c": 0.5, "d": 0.6, "e": 0.7}, 1)
        ['d']
    """
    ranked, count = sorted(scores, key=lambda case: scores[case]), min(count, len(scores))
    return [ranked[(2 * number + 1) * len(ranked) // (2 * count)] for number in range(count)]


def case_row(
    experiment: Experiment, case: str, size: int, split: int, source: CaseSource, preprocess: Preprocess
) -> CaseRow:
    """Read a case and the masks that every method predicted for it.

    Args:
        experiment: whose runs hold predictions/.
        case: its name.
        size: number of training scans.
        split: of the trainings; of several seeds the first one is taken.
        source: of the cases.
        preprocess: of the runs, for the label map.

    Raises:
        DataError: if the case has no truth, or a mask cannot be read.
    """
    scan = source.load(case)
    truth = preprocess.mapped_label(scan)
    if truth is None:
        raise DataError(f"Case {case} has no truth to draw. Name data with labels.")
    done = {it.row.method: it for it in reversed(experiment.trainings) if _has(it, case, size, split)}
    found = {method: _predicted(done[method], case) if method in done else None for method in experiment.methods}
    label = f"{case}\n{size} scan{'s' * (size != 1)}"
    return CaseRow(label, scan.image[0], truth, scan.spacing, found)


def _has(training: Training, case: str, size: int, split: int) -> bool:
    return (training.row.train, training.row.split) == (size, split) and case in training.cases


def _predicted(training: Training, case: str) -> tuple[Tensor, float] | None:
    """Return the mask of a case, in classes, and its Dice; None if the run kept no mask."""
    mask, dice = predicted_mask(training.folder / "predictions", case), training.cases[case].get("dice")
    return None if mask is None or dice is None else (mask, dice)


def shown_split(experiment: Experiment, size: int) -> tuple[int, dict[str, float]]:
    """Return the first split with results of the reference, and its Dice of each case.

    Raises:
        DataError: if the reference has none at this size.
    """
    found = experiment.cases(experiment.reference, size, "dice")
    if not found:
        reason = experiment.spread(experiment.reference, size, "dice").missing
        missing = f"{experiment.reference}, {size} scans: {reason}"
        raise DataError(
            f"The cases to draw are chosen by the Dice of the reference, which is missing ({missing}). Finish it."
        )
    return min(found.items())


def reference_run(experiment: Experiment) -> Path:
    """Return the folder of a finished training of the reference, whose config says where the cases come from.

    Raises:
        DataError: if there is none.
    """
    done: list[Path] = [it.folder for it in experiment.trainings if it.row.method == experiment.reference and it.cases]
    if not done:
        raise DataError(f"No training of the reference {experiment.reference} has finished. Run the experiment first.")
    return Path(done[0])
