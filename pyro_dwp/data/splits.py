"""Which cases are used to train, validate and test: none of them twice."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from pydantic import NonNegativeInt, PositiveInt

from pyro_dwp.checks import checked, checked_dataclass
from pyro_dwp.errors import DataError
from pyro_dwp.files import read_json, write_json

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """Names of the cases of each part; no two parts share a case.

    Args:
        train: cases whose labels the network or the guide learns from.
        validation: cases whose loss controls the learning rate.
        test: cases that are scored once, at the end.

    Raises:
        DataError: if a case is named twice.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    def __post_init__(self) -> None:
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise DataError(
                f"Each case appears once, in one part of a split, but these appear again: {', '.join(twice)}."
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The cases of all parts."""
        return (*self.train, *self.validation, *self.test)

    @property
    def learned_from(self) -> tuple[str, ...]:
        """Names of the training and the validation cases."""
        return self.train + self.validation


@checked
def split_cases(
    names: Sequence[str],
    train: PositiveInt,
    validation: NonNegativeInt,
    test: NonNegativeInt,
    seed: int,
    test_seed: int | None = None,
) -> Split:
    """Draw a split at random.

    The shuffled names are dealt to test, validation and train, in this order. So, for one seed, the test set depends on `test`
    alone, and a smaller training set is the beginning of a larger one. With a `test_seed`, the test set is the same for every
    `seed`, so that whoever tunes on the validation cases of any split has seen no test case.

    Args:
        names: of all cases; their order does not matter.
        train: number of cases to learn from.
        validation: number of cases whose loss controls the learning rate.
        test: number of cases to score once, at the end.
        seed: of the shuffle.
        test_seed: of the choice of the test cases; None takes `seed`.

    Raises:
        ConfigError: if a number is negative, or there are no cases to train on.
        DataError: if there are too few cases.

    Example:
        >>> split = split_cases(["a", "b", "c", "d", "e"], train=2, validation=1, test=2, seed=0)
        >>> len(set(split.names))
        5
    """
    if train + validation + test > len(names):
        raise DataError(
            f"{train} cases to train, {validation} to validate and {test} to test are {train + validation + test}, but "
            f"there are {len(names)}. Ask for fewer, or add cases."
        )
    dealt = _shuffled(names, seed if test_seed is None else test_seed)
    tested, others = dealt[:test], dealt[test:]
    if test_seed is not None:
        others = _shuffled(others, seed)
    return Split(tuple(others[validation:][:train]), tuple(others[:validation]), tuple(tested))


@checked_dataclass
class SplitPlan:
    """How the cases of a run are divided.

    Args:
        train: number of scans to learn from.
        validation: number of scans whose loss controls the learning rate.
        test: number of scans to score once, at the end.
        split_seed: seed that chooses the training and validation scans among those that are not test scans.
        test_seed: seed that chooses the test scans.
    """

    train: PositiveInt = 5
    validation: PositiveInt = 5
    test: PositiveInt = 10
    split_seed: int = 0
    test_seed: int = 0

    def draw(self, names: Sequence[str]) -> Split:
        """Return a random split of these cases, see `split_cases`."""
        return split_cases(names, self.train, self.validation, self.test, self.split_seed, self.test_seed)


def write_split(path: Path, split: Split) -> Path:
    """Write a split as JSON, whole or not at all, and return its path.

    Args:
        path: split.json of a run.
        split: to store.

    Raises:
        DataError: if the file cannot be written.
    """
    return write_json(path, asdict(split))


def read_split(path: Path, names: Sequence[str]) -> Split:
    """Return the split of a run that is resumed.

    A resumed run must keep its own cases: if scans have been added or removed since, a newly drawn split could put former
    training cases into the test set.

    Args:
        path: split.json of the run.
        names: of the cases that are there now.

    Raises:
        DataError: if the file is missing, unreadable, or names a case that is no longer there.
    """
    cure = "Restore it, or begin a new run."
    stored = read_json(path, "the split of a run", cure)
    listed = all(isinstance(part, list) and all(isinstance(name, str) for name in part) for part in stored.values())
    if stored.keys() != set(PARTS) or not listed:
        raise DataError(f"{path} should hold three lists of names, {', '.join(PARTS)}. {cure}")
    try:
        kept = Split(**{part: tuple(stored[part]) for part in PARTS})
    except DataError as error:
        raise DataError(f"{path}: {error} {cure}") from error
    if gone := sorted({*kept.names} - set(names)):
        raise DataError(
            f"{path} names cases that are no longer there: {', '.join(gone[:5])}. Put them back, or begin a new run."
        )
    return kept


def _shuffled(names: Sequence[str], seed: int) -> list[str]:
    ordered, generator = sorted(names), torch.Generator().manual_seed(seed)
    return [ordered[index] for index in torch.randperm(len(ordered), generator=generator).tolist()]


def bootstrap(names: Sequence[str], seed: int) -> list[str]:
    """Return as many names as given, drawn with replacement.

    Args:
        names: of the training cases.
        seed: of the draw.

    Example:
        >>> len(bootstrap(["a", "b", "c"], seed=0))
        3
    """
    generator = torch.Generator().manual_seed(seed)
    return [names[index] for index in torch.randint(len(names), (len(names),), generator=generator).tolist()]
