"""How cases are dealt to training, validation and test: none of them twice, and each patient to one side."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import torch
from annotated_types import Ge
from pydantic import NonNegativeInt, PositiveInt

from pyro_dwp.checks import checked_dataclass
from pyro_dwp.data.patients import TABLE, patient_pattern, patients_of
from pyro_dwp.data.split import Split, read_split
from pyro_dwp.errors import ConfigError, DataError, suggest

Item = TypeVar("Item")

Scans = Mapping[str, Sequence[str]]  # patient → names of scans


@checked_dataclass
class SplitPlan:
    r"""How the cases of a run are divided: at random, into folds, or as a file says.

    The shuffled patients are dealt whole to test, validation and train, in this order, so that no patient is on two sides. A
    part is the number of scans that was asked for, in the order in which they are dealt; scans that are left of its last patient
    go nowhere. So, for the same seeds,

    - the test scans depend on `test` and `test_seed` alone: whoever tunes on the validation scans of any split has seen none;
    - the validation scans do not depend on `train`, and a smaller training set is the beginning of a larger one.

    In k-fold cross-validation, the patients are dealt to `folds` parts, those with many scans first, each to the part with the
    fewest; part number `fold` is the test set. Each case is a test case in exactly one fold, and the sizes of two folds differ by
    at most the scans of one patient.

    Args:
        train: number of scans to learn from; None takes all that are left.
        validation: number of scans whose loss controls the learning rate; 0 for a schedule that needs none.
        test: number of scans to score once, at the end; does not count with `folds`.
        split_seed: seed that chooses the training and validation scans among those that are not test scans.
        test_seed: seed that chooses the test scans, or the folds.
        patients: regular expression for a case's name with one group, the patient, such as "(.+)_T\d+", or CSV file with columns
            case and patient; None takes each case for a patient of its own.
        folds: number of folds; None draws `test` scans instead.
        fold: the fold to test on, from 0.
        split: JSON file with the lists train, validation and test, such as split.json of a run; numbers and seeds then do not
            count.
        leave_out: names of cases that are not used, such as one that cannot be read.

    Raises:
        ConfigError: if a number is out of range, `patients` is not such an expression, or settings exclude each other.

    Example:
        >>> split = SplitPlan(train=2, validation=1, test=2).draw(["a", "b", "c", "d", "e"])
        >>> len(set(split.names))
        5
    """

    train: PositiveInt | None = 5
    validation: NonNegativeInt = 5
    test: NonNegativeInt = 10
    split_seed: int = 0
    test_seed: int = 0
    patients: str | None = None
    folds: Annotated[int, Ge(2)] | None = None
    fold: NonNegativeInt = 0
    split: Path | None = None
    leave_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.patients is not None and not self.patients.endswith(TABLE):
            patient_pattern(self.patients)
        if self.fold >= (self.folds or 1):
            raise ConfigError(f"fold is {self.fold}, but folds is {self.folds or 'null'}. Folds are numbered from 0.")
        if self.folds and self.split:
            raise ConfigError(
                f"Cases are divided by folds or by a file, but folds is {self.folds} and split is {self.split}."
            )

    def draw(self, names: Sequence[str]) -> Split:
        """Return the split of these cases; their order does not matter.

        Args:
            names: of all cases.

        Raises:
            DataError: if there are too few cases or patients, the patient of a case is unknown, the file of the split does not
                fit the cases, or one to leave out is not there.
        """
        if unknown := [name for name in self.leave_out if name not in names]:
            raise DataError(f"leave_out names {unknown[0]!r}, but there is no such case. {suggest(unknown[0], names)}")
        names = [name for name in names if name not in self.leave_out]
        patients = patients_of(names, self.patients)
        if self.split is not None:
            return _own_split(self.split, patients)
        scans: dict[str, list[str]] = defaultdict(list)
        for name in sorted(names):
            scans[patients[name]].append(name)
        test, others = self._tested(_shuffled(scans, self.test_seed), scans)
        validation, others = _deal(_shuffled(others, self.split_seed), scans, self.validation)
        train, _ = _deal(others, scans, self.train)
        wanted = self.train or max(1, len(train)), self.validation, len(test) if self.folds else self.test
        if (len(train), len(validation), len(test)) != wanted:
            whole = f" of {len(scans)} patients, each of them in one part" if self.patients else ""
            raise DataError(
                f"The split has {wanted[0]} cases to train, {wanted[1]} to validate and {wanted[2]} to test, but there are "
                f"{len(names)}{whole}. Ask for fewer, or add cases."
            )
        return Split(tuple(train), tuple(validation), tuple(test))

    def _tested(self, order: Sequence[str], scans: Scans) -> tuple[list[str], list[str]]:
        """Return the test scans, and the patients who have none."""
        if self.folds is None:
            return _deal(order, scans, self.test)
        tested = _folds(order, scans, self.folds)[self.fold]
        return _deal(tested, scans)[0], [patient for patient in order if patient not in tested]


def _own_split(path: Path, patients: Mapping[str, str]) -> Split:
    """Return the split of a user's file after checking that it has training cases, and every patient on one side."""
    split = read_split(path, list(patients), "correct the file")
    if not split.train:
        raise DataError(f"{path} lists no case to train on. Correct the file.")
    parts = [{patients[name] for name in part} for part in (split.train, split.validation, split.test)]
    if crossing := sorted(patient for patient in set().union(*parts) if sum(patient in part for part in parts) > 1):
        raise DataError(
            f"The scans of a patient stand in one part of a split, but {path} divides those of {', '.join(crossing[:5])}. "
            "Correct the file, or patients."
        )
    return split


def _deal(order: Sequence[str], scans: Scans, count: int | None = None) -> tuple[list[str], list[str]]:
    """Return the first `count` scans of patients in this order, and the patients of whom none was taken."""
    dealt: list[str] = []
    for number, patient in enumerate(order):
        if count is not None and len(dealt) >= count:
            return dealt[:count], list(order[number:])
        dealt += scans[patient]
    return dealt[:count], []


def _folds(order: Sequence[str], scans: Scans, folds: int) -> list[list[str]]:
    """Deal the patients, those with many scans first, each to the fold with the fewest scans."""
    if len(order) < folds:
        raise DataError(f"Each of {folds} folds needs a patient, but there are {len(order)}. Ask for fewer folds.")
    dealt: list[list[str]] = [[] for _ in range(folds)]
    for patient in sorted(order, key=lambda patient: -len(scans[patient])):
        min(dealt, key=lambda fold: sum(len(scans[member]) for member in fold)).append(patient)
    return dealt


def _shuffled(names: Iterable[str], seed: int) -> list[str]:
    ordered, generator = sorted(names), torch.Generator().manual_seed(seed)
    return [ordered[index] for index in torch.randperm(len(ordered), generator=generator).tolist()]


def bootstrap(cases: Sequence[Item], seed: int) -> list[Item]:
    """Return as many cases as given, drawn with replacement.

    Scans of one patient are drawn like any others: the draw makes networks differ, and measures nothing.

    Args:
        cases: to learn from, or their names.
        seed: of the draw.

    Example:
        >>> len(bootstrap(["a", "b", "c"], seed=0))
        3
    """
    generator = torch.Generator().manual_seed(seed)
    return [cases[index] for index in torch.randint(len(cases), (len(cases),), generator=generator).tolist()]
