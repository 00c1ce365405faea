"""Scores of each case, their mean and their spread; as text, JSON and CSV."""

import csv
import io
import json
import math
import os
import statistics
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from pyro_dwp.errors import DataError
from pyro_dwp.metrics.calibration import brier_score, calibration_error, negative_log_likelihood
from pyro_dwp.metrics.overlap import dice, iou


def score_case(prediction: Tensor, truth: Tensor, classes: int, probability: Tensor | None = None) -> dict[str, float]:
    """Return every score of one case.

    `dice` and `iou` are means over the foreground classes; where there is more than one, `dice_1`, `iou_1`, `dice_2`,
    … follow. With probabilities, `negative_log_likelihood` (nats per voxel), `brier` and `calibration_error` are added.

    Args:
        prediction: predicted classes, integers, (D, H, W).
        truth: true classes, (D, H, W).
        classes: C, the background (0) included.
        probability: predicted probabilities, (C, D, H, W).

    Raises:
        DataError: if shapes differ or a label is outside 0 to C - 1.

    Example:
        >>> import torch
        >>> truth = torch.tensor([[0, 0, 1, 1]])
        >>> score_case(truth, truth, classes=2)
        {'dice': 1.0, 'iou': 1.0}
    """
    scores: dict[str, float] = {}
    for name, per_class in (("dice", dice(prediction, truth, classes)), ("iou", iou(prediction, truth, classes))):
        scores[name] = float(per_class.mean())
        if classes > 2:
            scores.update({f"{name}_{index}": float(value) for index, value in enumerate(per_class, start=1)})
    if probability is not None:
        scores["negative_log_likelihood"] = negative_log_likelihood(probability, truth)
        scores["brier"] = brier_score(probability, truth)
        scores["calibration_error"] = calibration_error(probability, truth)
    return scores


class CaseTable:
    """A table with one row of scores per case; the columns are those of the first row.

    Example:
        >>> table = CaseTable()
        >>> table.add("patient_1", {"dice": 0.5})
        >>> table.add("patient_2", {"dice": 0.75})
        >>> table.mean()
        {'dice': 0.625}
    """

    def __init__(self, cases: Mapping[str, Mapping[str, float]] | None = None) -> None:
        self.cases: dict[str, dict[str, float]] = {}
        for name, scores in (cases or {}).items():
            self.add(name, scores)

    @property
    def columns(self) -> list[str]:
        """The names of the scores, in the order of the first case."""
        return list(next(iter(self.cases.values()), {}))

    def add(self, name: str, scores: Mapping[str, float]) -> None:
        """Append one case.

        Args:
            name: of the case, not yet in the table.
            scores: finite numbers, under the same names for all cases.

        Raises:
            DataError: if the case is there already, its scores have other names, or one is not finite.
        """
        if name in self.cases:
            raise DataError(f"A table has one row per case, but case '{name}' was added twice. Rename one of the two.")
        if self.cases and set(scores) != set(self.columns):
            raise DataError(
                f"All cases of a table have the same scores ({', '.join(self.columns)}), but case '{name}' has "
                f"{', '.join(scores)}. Score all cases with the same number of classes."
            )
        if bad := [f"{key}={value}" for key, value in scores.items() if not math.isfinite(value)]:
            raise DataError(f"Scores are finite numbers, but case '{name}' has {', '.join(bad)}. Check its prediction.")
        self.cases[name] = {key: float(scores[key]) for key in self.columns or scores}

    def mean(self) -> dict[str, float]:
        """Return the mean of each score over the cases; empty for an empty table."""
        return {key: statistics.fmean(row[key] for row in self.cases.values()) for key in self.columns}

    def std(self) -> dict[str, float | None]:
        """Return the standard deviation of each score over the cases (n - 1 in the denominator).

        It is None, in JSON null, where there is only one case.
        """
        rows = self.cases.values()
        return {key: statistics.stdev(row[key] for row in rows) if len(rows) > 1 else None for key in self.columns}

    def to_dict(self) -> dict[str, object]:
        """Return what JSON can hold: count, mean, std, and the scores of each case."""
        return {"count": len(self.cases), "mean": self.mean(), "std": self.std(), "cases": self.cases}

    def rows(self) -> list[list[float | str | None]]:
        """Return the table with its header in front and the mean and standard deviation at the end."""
        named: list[tuple[str, Mapping[str, float | None]]]
        named = [*self.cases.items(), ("mean", self.mean()), ("std", self.std())]
        return [["case", *self.columns], *([name, *(row[key] for key in self.columns)] for name, row in named)]

    def to_csv(self) -> str:
        """Return the table as comma-separated text; an unknown standard deviation is an empty field."""
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows(self.rows())
        return stream.getvalue()

    def save(self, folder: Path, stem: str = "scores") -> list[Path]:
        """Write the table to FOLDER/STEM.json and FOLDER/STEM.csv, each whole or not at all; return the two paths.

        Raises:
            DataError: if a file cannot be written.
        """
        texts = {"json": json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n", "csv": self.to_csv()}
        paths = [folder / f"{stem}.{ending}" for ending in texts]
        for path, text in zip(paths, texts.values(), strict=True):
            partial = path.with_name(f".{path.name}.part")
            try:
                folder.mkdir(parents=True, exist_ok=True)
                partial.write_text(text, encoding="utf-8")
                os.replace(partial, path)
            except OSError as error:
                cure = "Free some space, or choose another folder."
                raise DataError(f"{path} cannot be written ({error}). {cure}") from error
        return paths

    def to_text(self) -> str:
        """Return the table for a terminal: aligned columns, four decimals."""
        header, *body = self.rows()
        cells = [[str(cell) for cell in header]]
        cells += [[f"{c:.4f}" if isinstance(c, float) else "-" if c is None else c for c in row] for row in body]
        widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
            for row in cells
        ]
        rule = "-" * len(lines[0])
        return "\n".join([lines[0], rule, *lines[1:-2], rule, *lines[-2:]])
