"""The cases that a run learns from, is steered by and is tested on, and the file that says so."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pyro_dwp.errors import ConfigError, DataError
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
                f"Each case appears once, in one part of a split, but these appear again: {', '.join(map(repr, twice))}."
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The cases of all parts."""
        return (*self.train, *self.validation, *self.test)

    @property
    def learned_from(self) -> tuple[str, ...]:
        """Names of the training and the validation cases."""
        return self.train + self.validation

    def describe(self) -> str:
        """Return how many cases each part has.

        Example:
            >>> Split(("a", "b"), (), ("c",)).describe()
            '2 scans to learn from, 1 for the test'
        """
        parts = {"for validation": self.validation, "for the test": self.test}
        told = [
            f"{len(self.train)} scans to learn from",
            *(f"{len(part)} {what}" for what, part in parts.items() if part),
        ]
        return ", ".join(told)

    def held_out(self, part: Literal["validation", "test"]) -> tuple[str, ...]:
        """Return the cases of a part that is to be scored.

        Raises:
            ConfigError: if it has none.
        """
        names = self.test if part == "test" else self.validation
        if not names:
            raise ConfigError(
                f"The {part} scans are to be scored, but the split has none. Deal some by --{part}, list some in the file of "
                "--split, or score others by --score."
            )
        return names


def write_split(path: Path, split: Split) -> Path:
    """Write a split as JSON, whole or not at all, and return its path.

    Args:
        path: split.json of a run.
        split: to store.

    Raises:
        DataError: if the file cannot be written.
    """
    return write_json(path, asdict(split))


def read_split(path: Path, names: Sequence[str], otherwise: str = "begin a new run") -> Split:
    """Return a split that is stored, such as that of a run that is resumed.

    A resumed run must keep its own cases: if scans have been added or removed since, a newly drawn split could put former
    training cases into the test set.

    Args:
        path: split.json of the run, or a file like it.
        names: of the cases that are there now.
        otherwise: what to do if the file cannot be restored, in words.

    Raises:
        DataError: if the file is missing, unreadable, names a case twice, or one that is not there.
    """
    cure = f"Restore it, or {otherwise}."
    stored = read_json(path, "a split", cure)
    listed = all(isinstance(part, list) and all(isinstance(name, str) for name in part) for part in stored.values())
    if stored.keys() != set(PARTS) or not listed:
        raise DataError(f"{path} should hold three lists of names, {', '.join(PARTS)}. {cure}")
    try:
        kept = Split(**{part: tuple(stored[part]) for part in PARTS})
    except DataError as error:
        raise DataError(f"{path}: {error} {cure}") from error
    if gone := sorted({*kept.names} - set(names)):
        raise DataError(
            f"{path} names cases that are not there: {', '.join(map(repr, gone[:5]))}. Put them back, or {otherwise}."
        )
    return kept
