"""The results of an experiment, read from its folder: one training a row, scores over splits, scores of single cases.

    experiment.json                      a row for each training: method, scans, split, seed, folder, status (`Row`)
    FOLDER/metrics.json                  of each row that is done
    scores: {"source": OTHER_FOLDER}     in a row: the same network scored on other cases, read as "source/dice", ...

A cell of a table is a method with a number of training scans. Several seeds of one split are averaged first, so that mean and
standard deviation are over splits.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Literal

from pydantic import BaseModel

from pyro_dwp.errors import DataError, suggest
from pyro_dwp.files import check_header, read_json
from pyro_dwp.metrics import EACH
from pyro_dwp.metrics.stored import read_metrics

FILE = "experiment.json"
CURE = "Name the folder of an experiment that run/experiment.py has begun, or run it again."
AGAIN = "Run the experiment again."
REASONS = {"done": "", "missing": "not run yet", "failed": "failed"}
COSTS = ("seconds", "seconds_per_step", "peak_memory_mib")

Scores = Mapping[str, float | None]


class Row(BaseModel):
    """One training as experiment.json lists it."""

    method: str
    train: int  # scans
    split: int
    seed: int
    status: Literal["done", "missing", "failed"]
    folder: str = ""  # relative to that of the experiment
    scores: dict[str, str] = {}  # name → folder, of each further score that is done
    reason: str = ""  # why it failed


class Listing(BaseModel):
    """The content of experiment.json."""

    name: str
    reference: str
    rows: list[Row]


@dataclass(frozen=True)
class Training:
    """One training and its scores.

    Args:
        row: of experiment.json.
        folder: of the run.
        mean: score → mean over the test cases; cost → value, such as "seconds"; "OTHER/SCORE" → mean over other cases.
        cases: case → score → value.
        reason: why there are no scores; "" if there are.
    """

    row: Row
    folder: Path
    mean: Scores
    cases: Mapping[str, Scores]
    reason: str


@dataclass(frozen=True)
class Spread:
    """A score of one cell.

    Args:
        splits: split → mean over its seeds, of the trainings that have the score.
        missing: what is missing and why, one line; "" if nothing is.
    """

    splits: Mapping[int, float]
    missing: str

    @property
    def mean(self) -> float | None:
        """Mean over the splits; None without any."""
        return fmean(self.splits.values()) if self.splits else None

    @property
    def std(self) -> float | None:
        """Standard deviation over the splits, with n − 1 in the denominator; None for fewer than two."""
        return stdev(self.splits.values()) if len(self.splits) > 1 else None


@dataclass(frozen=True)
class Experiment:
    """All trainings of an experiment.

    Args:
        name: of the experiment.
        reference: method that the others are compared with.
        trainings: in the order of the file.
    """

    name: str
    reference: str
    trainings: tuple[Training, ...]

    @property
    def methods(self) -> list[str]:
        """The methods, in the order of the file."""
        return list(dict.fromkeys(training.row.method for training in self.trainings))

    @property
    def sizes(self) -> list[int]:
        """The numbers of training scans, ascending."""
        return sorted({training.row.train for training in self.trainings})

    @property
    def others(self) -> list[str]:
        """Names of the other cases that were scored besides the test cases, such as "source"."""
        return list(dict.fromkeys(name for training in self.trainings for name in training.row.scores))

    @property
    def structures(self) -> list[str]:
        """Names of the structures, if test cases were scored by several."""
        found = [score for training in self.trainings for score in training.mean if score.startswith(EACH)]
        return list(dict.fromkeys(score.removeprefix(EACH) for score in found))

    def cell(self, method: str, size: int) -> list[Training]:
        """Return the trainings of a method with a number of training scans."""
        return [it for it in self.trainings if (it.row.method, it.row.train) == (method, size)]

    def spread(self, method: str, size: int, score: str) -> Spread:
        """Return a score of a cell, split by split, and what is missing.

        Args:
            method: its name.
            size: number of training scans.
            score: such as "dice", "seconds" or "source/dice".
        """
        found: dict[int, list[float]] = defaultdict(list)
        missing: dict[str, list[str]] = defaultdict(list)
        for training in (trainings := self.cell(method, size)):
            if (value := training.mean.get(score)) is not None:
                found[training.row.split].append(value)
            else:
                place = f"split {training.row.split}, seed {training.row.seed}"
                unknown = f"{score} has no value on any scan" if score in training.mean else f"{score} was not measured"
                missing[training.reason or unknown].append(place)
        lines = [f"{' and '.join(places)}: {reason}" for reason, places in missing.items()]
        if not trainings:
            lines = ["not part of the experiment"]
        elif len(missing) == 1 and not found:
            lines = list(missing)
        return Spread({split: fmean(values) for split, values in found.items()}, "; ".join(lines))

    def cases(self, method: str, size: int, score: str) -> dict[int, dict[str, float]]:
        """Return split → case → score, averaged over the seeds, of the trainings that are done."""
        found: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for training in self.cell(method, size):
            for case, scores in training.cases.items():
                if (value := scores.get(score)) is not None:
                    found[training.row.split][case].append(value)
        return {split: {case: fmean(values) for case, values in rows.items()} for split, rows in found.items()}


def read_experiment(folder: Path, reference: str | None = None) -> Experiment:
    """Read an experiment, finished or not; a training whose results cannot be read counts as missing, with the reason.

    Args:
        folder: that holds experiment.json.
        reference: method that the others are compared with; None takes that of the file.

    Raises:
        DataError: if the file is missing or damaged, or the reference is not one of its methods.
    """
    path = Path(folder) / FILE
    listing = check_header(Listing, read_json(path, "an experiment", CURE), str(path), CURE, DataError)
    chosen, trainings = reference or listing.reference, tuple(_training(path.parent, row) for row in listing.rows)
    experiment = Experiment(listing.name, chosen, trainings)
    if chosen not in experiment.methods:
        raise DataError(
            f"The reference is one of the methods of {path}, but is {chosen!r}. {suggest(chosen, experiment.methods)}"
        )
    return experiment


def _training(folder: Path, row: Row) -> Training:
    place, reason = folder / row.folder, row.reason.strip() or REASONS[row.status]
    if row.status != "done":
        return Training(row, place, {}, {}, reason)
    try:
        metrics = read_metrics(place, AGAIN)
        mean = {**metrics.scored.mean, **{cost: getattr(metrics, cost) for cost in COSTS}}
        for name, other in row.scores.items():
            mean |= {
                f"{name}/{score}": value for score, value in read_metrics(folder / other, AGAIN).scored.mean.items()
            }
        return Training(row, place, mean, metrics.scored.cases, "")
    except DataError as error:
        return Training(row, place, {}, {}, str(error))
