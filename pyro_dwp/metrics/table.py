"""Scores of each case, their mean and their spread; as text, JSON and CSV."""

import csv
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from pyro_dwp.errors import DataError
from pyro_dwp.files import write_json, write_text
from pyro_dwp.metrics.calibration import (
    brier_score,
    calibration_error,
    calibration_error_boundary,
    negative_log_likelihood,
)
from pyro_dwp.metrics.labels import label_values
from pyro_dwp.metrics.overlap import dice, iou, mean_score
from pyro_dwp.metrics.surface import hausdorff_95
from pyro_dwp.metrics.uncertainty import entropy, uncertainty_error_correlation

RULE = """\
dice and iou of a case: mean over the structures in its truth or its prediction; 1 if neither has any.
-: the structure is in neither (hd95, in mm: not in both), or the value is unknown; means and deviations are over the cases that
have a value."""

EACH = "dice_"  # column of a structure's Dice
FEW = 10  # structures that one line can name
Row = Mapping[str, float | None]
Structures = Mapping[str, Sequence[int]]  # name → classes or labels


def score_case(
    prediction: Tensor,
    truth: Tensor,
    classes: int,
    probability: Tensor | None = None,
    structures: Structures | None = None,
    spacing: Sequence[float] | None = None,
) -> dict[str, float | None]:
    """Return every score of one case.

    `dice` and `iou` are means over the structures that occur in the truth or in the prediction; one that occurs in neither is
    not scored, and if none occurs, both are 1. With several structures `dice_NAME` and `iou_NAME` of each follow, None for one
    that does not occur. A structure's mask is where the class is one of its classes, so structures may overlap.

    - With a spacing, `hd95` is added likewise: the 95 % Hausdorff distance in mm of structures that occur in both.
    - With probabilities, `negative_log_likelihood` (nats per voxel), `brier`, `calibration_error` and
      `uncertainty_error_correlation` of the predictive entropy; with a spacing, too, `calibration_error_boundary` (5 mm).

    Args:
        prediction: predicted classes, integers, (D, H, W).
        truth: true classes, (D, H, W).
        classes: C, the background (0) included.
        probability: predicted probabilities, (C, D, H, W).
        structures: name → classes; None takes each foreground class for one, named by its number.
        spacing: distance between voxels along D, H, W, in mm.

    Raises:
        DataError: if shapes differ or a class is outside 0 to C - 1.

    Example:
        >>> import torch
        >>> score_case(torch.tensor([[0, 0, 1, 1]]), torch.tensor([[0, 0, 0, 1]]), classes=3)
        {'dice': 0.6666666666666666, 'dice_1': 0.6666666666666666, 'dice_2': None, 'iou': 0.5, 'iou_1': 0.5, 'iou_2': None}
    """
    for role, volume in (("prediction", prediction), ("truth", truth)):
        if (highest := max(label_values(volume, f"the {role}"), default=0)) >= classes:
            raise DataError(
                f"With {classes} classes, labels are 0 to {classes - 1}, but the {role} holds {highest}. "
                "Map its labels (label_map), or use a network with more classes."
            )
    scored = {str(index): (index,) for index in range(1, classes)} if structures is None else structures
    scores = structure_columns(mask_scores(prediction, truth, scored, spacing), list(scored))
    if probability is not None:
        scores["negative_log_likelihood"] = negative_log_likelihood(probability, truth)
        scores["brier"] = brier_score(probability, truth)
        scores["calibration_error"] = calibration_error(probability, truth)
        if spacing is not None:
            scores["calibration_error_boundary"] = calibration_error_boundary(probability, truth, spacing)
        scores["uncertainty_error_correlation"] = uncertainty_error_correlation(
            entropy(probability), prediction != truth
        )
    return scores


def mask_scores(
    prediction: Tensor, truth: Tensor, structures: Structures, spacing: Sequence[float] | None = None
) -> dict[str, dict[str, float]]:
    """Return the scores that a mask has: score → structure → value, for `structure_columns`.

    Args:
        prediction: predicted labels, integers, (D, H, W).
        truth: true labels, same shape.
        structures: name → labels.
        spacing: distance between voxels along D, H, W, in mm; None where it is not known, and `hd95` is left out.

    Raises:
        DataError: if the shapes differ.
    """
    found: dict[str, dict[str, float]] = {score: {} for score in ("dice", "iou", "hd95")[: 2 if spacing is None else 3]}
    for name, labels in structures.items():
        p, t = (torch.isin(volume, torch.tensor(labels, device=volume.device)) for volume in (prediction, truth))
        scores = {"dice": dice(p, t), "iou": iou(p, t)}
        scores |= {} if spacing is None else {"hd95": hausdorff_95(p, t, spacing)}
        for score, value in scores.items():
            found[score] |= {name: value[1]} if value else {}
    return found


def structure_columns(found: Mapping[str, Mapping[str, float]], structures: Sequence[str]) -> dict[str, float | None]:
    """Return one case's scores as columns of a table: the means and, of several structures, each one's score or None.

    Args:
        found: score → structure → value, as `mask_scores` returns it.
        structures: names of those of all cases of the table.

    Example:
        >>> structure_columns({"dice": {"core": 1.0}, "hd95": {}}, ["core"])
        {'dice': 1.0, 'hd95': None}
    """
    columns: dict[str, float | None] = {}
    for score, values in found.items():
        columns[score] = mean_score(values) if values or score in ("dice", "iou") else None
        if len(structures) > 1:
            columns.update({f"{score}_{name}": values.get(name) for name in structures})
    return columns


def structure_title(name: str) -> str:
    """Return what a structure is called: its name, or the label that it is named by.

    Example:
        >>> structure_title("core"), structure_title("2")
        ('core', 'label 2')
    """
    return f"label {name}" if name.isdecimal() else name


class CaseTable:
    """A table with one row of scores per case; the columns are those of the first row.

    Args:
        cases: name → scores, added in order.

    Example:
        >>> table = CaseTable()
        >>> table.add("patient_1", {"dice": 0.5, "dice_2": None})
        >>> table.add("patient_2", {"dice": 0.75, "dice_2": 0.25})
        >>> table.mean()
        {'dice': 0.625, 'dice_2': 0.25}
    """

    def __init__(self, cases: Mapping[str, Row] | None = None) -> None:
        self.cases: dict[str, dict[str, float | None]] = {}
        for name, scores in (cases or {}).items():
            self.add(name, scores)

    @property
    def columns(self) -> list[str]:
        """The names of the scores, in the order of the first case."""
        return list(next(iter(self.cases.values()), {}))

    def add(self, name: str, scores: Row) -> None:
        """Append one case.

        Args:
            name: of the case, not yet in the table.
            scores: finite numbers, or None for a label that the case does not have; under the same names for all cases.

        Raises:
            DataError: if the case is there already, its scores have other names, or one is not finite.
        """
        if name in self.cases:
            raise DataError(f"A table has one row per case, but case '{name}' was added twice. Rename one of the two.")
        if self.cases and set(scores) != set(self.columns):
            raise DataError(
                f"All cases of a table have the same scores ({', '.join(self.columns)}), but case '{name}' has "
                f"{', '.join(scores)}. Score all cases with the same labels."
            )
        if bad := [f"{key}={value}" for key, value in scores.items() if value is not None and not math.isfinite(value)]:
            raise DataError(f"Scores are finite numbers, but case '{name}' has {', '.join(bad)}. Check its prediction.")
        ordered = {key: scores[key] for key in self.columns or scores}
        self.cases[name] = {key: None if value is None else float(value) for key, value in ordered.items()}

    def mean(self) -> dict[str, float | None]:
        """Return the mean of each score over the cases that have it, None if none has; empty for an empty table."""
        return {key: statistics.fmean(values) if values else None for key, values in self._values().items()}

    def std(self) -> dict[str, float | None]:
        """Return the standard deviation of each score over the n cases that have it, with n - 1 in the denominator.

        It is None, in JSON null, if fewer than two cases have the score.
        """
        return {key: statistics.stdev(values) if len(values) > 1 else None for key, values in self._values().items()}

    def _values(self) -> dict[str, list[float]]:
        return {key: [value for row in self.cases.values() if (value := row[key]) is not None] for key in self.columns}

    def to_dict(self) -> dict[str, object]:
        """Return what JSON can hold: count, mean, std, and the scores of each case."""
        return {"count": len(self.cases), "mean": self.mean(), "std": self.std(), "cases": self.cases}

    def headline(self) -> str:
        """Return mean and standard deviation of Dice, the mean of each of a few structures, and mean IoU, in one line.

        Example:
            >>> CaseTable({"a": {"dice": 0.5, "dice_core": 0.4, "dice_2": 0.6, "iou": 0.35}}).headline()
            'Dice 0.500: core 0.40, label 2 0.60; IoU 0.350'
        """
        mean, spread = self.mean(), self.std()["dice"]
        deviation = "" if spread is None else f" (sd {spread:.3f})"
        names = [column.removeprefix(EACH) for column in self.columns if column.startswith(EACH)]
        each = [f"{structure_title(name)} {_short(mean[EACH + name])}" for name in names]
        named = f": {', '.join(each)};" if 0 < len(each) <= FEW else ","
        return f"Dice {mean['dice']:.3f}{deviation}{named} IoU {mean['iou']:.3f}"

    def rows(self) -> list[list[float | str | None]]:
        """Return the table with its header in front and the mean and standard deviation at the end."""
        named: list[tuple[str, Row]] = [*self.cases.items(), ("mean", self.mean()), ("std", self.std())]
        return [["case", *self.columns], *([name, *(row[key] for key in self.columns)] for name, row in named)]

    def to_csv(self) -> str:
        """Return the table as comma-separated text; a missing value is an empty field."""
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows(self.rows())
        return stream.getvalue()

    def save(self, folder: Path, stem: str = "scores") -> list[Path]:
        """Write the table to FOLDER/STEM.json and FOLDER/STEM.csv, each whole or not at all.

        Args:
            folder: made if it is missing.
            stem: name of the files without extension.

        Returns:
            The two paths.

        Raises:
            DataError: if a file cannot be written.
        """
        return [
            write_json(folder / f"{stem}.json", self.to_dict()),
            write_text(folder / f"{stem}.csv", self.to_csv()),
        ]

    def to_text(self) -> str:
        """Return the table for a terminal: aligned columns, four decimals, and below them how overlap is averaged."""
        header, *body = self.rows()
        cells = [[str(cell) for cell in header]]
        cells += [[f"{c:.4f}" if isinstance(c, float) else "-" if c is None else c for c in row] for row in body]
        widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
            for row in cells
        ]
        rule = "-" * len(lines[0])
        return "\n".join([lines[0], rule, *lines[1:-2], rule, *lines[-2:], *([RULE] if "dice" in self.columns else [])])


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
