"""Held-out scans once all of them are predicted: their scores, calibration, where to look first, and whether that is valid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from pyro_dwp.data import Scan
from pyro_dwp.data.shelf import on_disk, shelve_label
from pyro_dwp.errors import DataError
from pyro_dwp.metrics import CaseTable, Reliability, posterior_coverage, rank_correlation, share, structure_title
from pyro_dwp.metrics.stored import read_metrics
from pyro_dwp.metrics.validity import FEWEST
from pyro_dwp.predict.calibrate import Calibration
from pyro_dwp.predict.posterior import Prediction
from pyro_dwp.predict.review import CaseReview, Row, describe_review, ranked


@dataclass(frozen=True)
class ScoredCase:
    """A labelled case on its own grid, its prediction and its scores.

    Args:
        scan: image (C, D, H, W).
        truth: classes after the label map, (D, H, W).
        prediction: maps on the scan's grid.
        structures: name → classes.
        scores: of `metrics.score_case`, of the review, and volumes; None for a label that the case does not have.
        review: what the prediction says about itself.
        classes: what a legend calls each foreground class.
    """

    scan: Scan
    truth: Tensor
    prediction: Prediction
    structures: Mapping[str, Sequence[int]]
    scores: dict[str, float | None]
    review: CaseReview
    classes: tuple[str, ...] = ()

    def shelve(self) -> "ScoredCase":
        """Return the case with large volumes in files, so that it can be kept while others are predicted."""
        label = None if self.scan.label is None else shelve_label(self.scan.label)
        scan = replace(self.scan, image=on_disk(self.scan.image), label=label)
        maps = {
            name: on_disk(getattr(self.prediction, name).cpu())
            for name in ("probability", "entropy", "mutual_information")
        }
        if self.prediction.processed is not None:
            maps["processed"] = shelve_label(self.prediction.processed)
        return replace(self, scan=scan, truth=shelve_label(self.truth), prediction=replace(self.prediction, **maps))


@dataclass(frozen=True)
class Evaluation:
    """Held-out scans, scored one after the other; the maps of only a few of them are kept.

    Args:
        part: "test" or "validation".
        samples: networks that each scan was predicted with.
        calibration: of the run.
        table: scores, a row for each case.
        reliability: structure → its calibration over the voxels of all cases.
        review: what each prediction says about itself.
        shown: cases for figures.
    """

    part: str
    samples: int
    calibration: Calibration
    table: CaseTable = field(default_factory=CaseTable)
    reliability: dict[str, Reliability] = field(default_factory=dict)
    review: list[CaseReview] = field(default_factory=list)
    shown: list[ScoredCase] = field(default_factory=list)

    def add(self, case: ScoredCase, show: bool = False) -> None:
        """Add a case.

        Args:
            case: that was scored.
            show: keep its maps for a figure.
        """
        self.table.add(case.scan.name, case.scores)
        self.review.append(case.review)
        for name, classes in case.structures.items():
            found = self.reliability.setdefault(name, Reliability())
            members = torch.tensor(classes, device=case.truth.device)
            for p, truth in zip(case.prediction.probability.unbind(1), case.truth, strict=True):  # a slice at a time
                found.add(p[list(classes)].sum(0), torch.isin(truth, members))
        self.shown.extend([case] if show else [])

    def validity(self) -> dict[str, Any]:
        """Return how well predicted Dice orders the cases, and the share of volumes that each kind of interval covers."""
        posterior = posterior_coverage(self.samples)
        nominal = {"volume": self.calibration.coverage or posterior, "posterior_volume": posterior}
        return validity([self.table.cases], nominal)

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold: scores under the name of the part, temperature, calibration, review and validity."""
        return {
            self.part: self.table.to_dict(),
            "temperature": self.calibration.temperature,
            "calibration": {name: found.to_dict() for name, found in self.reliability.items()},
            "review": [case.to_dict() for case in ranked(self.review)],
            "validity": self.validity(),
        }

    def headline(self) -> str:
        """Return the scores in one line, and how many scans they are of."""
        return f"{self.table.headline()} over {len(self.table.cases)} {self.part} scan(s)"

    def describe(self) -> str:
        """Return the lines that a run ends with, but for its scores."""
        promised = {key: found for key, found in self.validity().items() if not key.startswith("posterior")}
        return "\n".join([describe_review(self.review), self.calibration.describe(), describe_validity(promised)])


def validity(runs: Sequence[Mapping[str, Row]], nominal: Mapping[str, float], seed: int = 0) -> dict[str, Any]:
    """Return whether uncertainty keeps its promises over the held-out scans of one run or several.

    Args:
        runs: each maps a scan to its scores.
        nominal: kind of interval ("volume", "posterior_volume") → coverage that it promises.
        seed: of the bootstrap.

    Returns:
        `predicted_dice`, see `metrics.rank_correlation`; `volume` and `posterior_volume` (with several structures `volume_NAME`
        and so on), see `metrics.share`, with the `nominal` coverage.
    """
    pairs = [{n: (row["predicted_dice"] or 0.0, row["dice"] or 0.0) for n, row in run.items()} for run in runs]
    found: dict[str, Any] = {"predicted_dice": rank_correlation(pairs, seed)}
    columns = dict.fromkeys(key for run in runs for row in run.values() for key in row)
    for kind, promised in nominal.items():
        for key in columns:
            begin, covered, name = key.partition("_covered")
            if covered and begin == kind:
                hits = [{n: bool(row[key]) for n, row in run.items() if row.get(key) is not None} for run in runs]
                found[kind + name] = share(hits) | {"nominal": promised}
    return found


def describe_validity(found: Mapping[str, Any]) -> str:
    """Return `validity` in words, a line for the order of the cases and one for each kind of interval."""
    order = found["predicted_dice"]
    if order["cases"] < FEWEST:
        return f"{order['cases']} scored scan(s): too few to say whether predicted Dice and intervals of volumes can be trusted."
    lines = [
        f"Predicted Dice orders {order['cases']} scans with rank correlation {_between(order, 'rank_correlation')} (1 is best)."
    ]
    for key, covered in found.items():
        if key.partition("_")[0] in ("volume", "posterior") and covered["coverage"] is not None:
            kind, _, name = key.partition("volume")
            of = f" of {structure_title(name[1:])}" if name else ""
            what = f"{'posterior' if kind else 'reported'} interval of the volume{of}"
            lines.append(
                f"The {what} holds the true volume in {_between(covered, 'coverage')} of them and promises "
                f"{covered['nominal']:.2f}."
            )
    return "\n".join(lines)


def pooled_validity(runs: Sequence[Path], seed: int = 0) -> dict[str, Any]:
    """Return the validity over the held-out scans of several finished runs; what they promise is averaged.

    Args:
        runs: folders.
        seed: of the bootstrap.

    Raises:
        DataError: if a run has no scores, or was scored before there was a predicted Dice.
    """
    stored = [read_metrics(run, "Name a run that has ended.") for run in runs]
    for run, found in zip(runs, stored, strict=True):
        if not found.validity or not found.scored.cases:
            raise DataError(
                f"{run}/metrics.json has no scans with a predicted Dice. Score the run again with run/score.py."
            )
        if lacking := [
            name for name, row in found.scored.cases.items() if not {"dice", "predicted_dice"} <= row.keys()
        ]:
            raise DataError(f"{run}/metrics.json has no Dice of {lacking[0]}. Score the run again with run/score.py.")
    promised: dict[str, list[float]] = {}
    for found in stored:
        for key, value in found.validity.items():
            if value.nominal is not None:
                kind = "posterior_volume" if key.startswith("posterior") else "volume"
                promised.setdefault(kind, []).append(value.nominal)
    cases = [found.scored.cases for found in stored]
    return validity(cases, {kind: fmean(values) for kind, values in promised.items()}, seed)


def _between(found: Mapping[str, float | None], key: str) -> str:
    """Return a number and its interval as text."""
    if found[key] is None:
        return "unknown"
    ends = "" if found["low"] is None else f" [{found['low']:.2f}, {found['high']:.2f}]"
    return f"{found[key]:.2f}{ends}"
