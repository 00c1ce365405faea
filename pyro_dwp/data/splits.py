"""Which cases train, validate and test: never the same one twice."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from pyro_dwp.errors import DataError


@dataclass(frozen=True)
class Split:
    """Names of the cases of each part; no two parts share a case.

    Args:
        train: cases whose labels the network or the guide learns from.
        validation: cases that steer the learning rate.
        test: cases that are looked at once, at the end.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    def __post_init__(self) -> None:
        names = [*self.train, *self.validation, *self.test]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DataError(f"A case is in one part of a split, once, but these appear again: {', '.join(twice)}.")

    def to_dict(self) -> dict[str, list[str]]:
        """Return the split as JSON can store it."""
        return {part: list(names) for part, names in asdict(self).items()}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Sequence[str]]) -> "Split":
        """Return the split that `to_dict` stored.

        Raises:
            DataError: if a part is missing, or parts share a case.
        """
        parts = ("train", "validation", "test")
        if set(stored) != set(parts):
            raise DataError(
                f"A split has the parts {', '.join(parts)}, but this one has {', '.join(stored) or 'none'}."
            )
        return cls(*(tuple(stored[part]) for part in parts))


def split_cases(
    names: Sequence[str], train: int, validation: int, test: int, seed: int, test_seed: int | None = None
) -> Split:
    """Draw a split at random.

    The shuffled names are dealt to test, validation and train, in this order. So, for one seed, the test set depends
    on `test` alone, and a smaller training set is the beginning of a larger one. With a `test_seed`, the test set is
    the same for every `seed`, so that whoever tunes on the validation cases of any split has seen no test case.

    Args:
        names: of all cases; their order does not matter.
        train: number of cases to learn from.
        validation: number of cases that steer the learning rate.
        test: number of cases to look at once, at the end.
        seed: of the shuffle.
        test_seed: of the choice of the test cases; None takes `seed`.

    Raises:
        DataError: if a number is negative, there is none to train on, or there are too few cases.

    Example:
        >>> split = split_cases(["a", "b", "c", "d", "e"], train=2, validation=1, test=2, seed=0)
        >>> len(set(split.train + split.validation + split.test))
        5
    """
    if train < 1 or validation < 0 or test < 0:
        raise DataError(
            f"A split has at least one training case and no negative part, but was to have {train} to train, "
            f"{validation} to validate and {test} to test. Change these numbers."
        )
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


def keep_split(path: Path, names: Sequence[str], draw: Callable[[], Split]) -> Split:
    """Return the split that lies beside a run; where there is none yet, draw and write it.

    A run that is resumed must go on with its own cases: if scans have come or gone since, a split that is drawn again
    would put former training cases into the test set.

    Args:
        path: split.json of the run.
        names: of the cases that are there now.
        draw: gives the split of a new run.

    Raises:
        DataError: if the file is unreadable, or names a case that is no longer there.
    """
    if not path.exists():
        drawn = draw()
        beside = path.with_name(path.name + ".tmp")
        beside.write_text(json.dumps(drawn.to_dict(), indent=2) + "\n", encoding="utf-8")
        os.replace(beside, path)
        return drawn
    try:
        kept = Split.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise DataError(f"{path} is no split of a run: {error}. Restore it, or begin a new run.") from error
    if gone := sorted({*kept.train, *kept.validation, *kept.test} - set(names)):
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
