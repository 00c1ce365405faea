"""Where cases come from: what a source of cases offers, and sources that list files on disk.

A source names its cases and loads one at a time, with the labels as they are stored. Files are looked for when names are first
asked for, not when a source is built, so that settings can be read on a machine without data. Folders are given as `str`, since
they may contain environment variables, such as "${PYRO_DWP_DATA}/lgg".
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from pyro_dwp.data.paths import expand
from pyro_dwp.data.reading import read_scan
from pyro_dwp.data.scan import Scan
from pyro_dwp.errors import DataError, suggest

Found = TypeVar("Found")


class CaseSource(ABC):
    """A set of named cases."""

    @abstractmethod
    def names(self) -> list[str]:
        """Return the names of the cases that have a label, sorted; of all, if none has one.

        Raises:
            DataError: if the source does not exist, is empty, or lacks a file that it should have.
        """

    @abstractmethod
    def load(self, name: str) -> Scan:
        """Return one case on its own grid, with its labels as they are stored.

        Raises:
            DataError: if there is no such case, or a file of it cannot be used.
        """

    def unlabelled(self) -> list[str]:
        """Return the names of the cases without a label, sorted."""
        return []

    def sequences(self, channels: int | None = None) -> list[str]:
        """Return the names of the channels; their numbers where they have none.

        Args:
            channels: how many there are; None looks at a case, if need be.
        """
        count = channels or len(self.load(self.names()[0]).image)
        return [str(number) for number in range(count)]

    def structures(self) -> dict[str, list[int]] | None:
        """Return name → labels, as they are stored, of each structure; None where the data do not say."""
        return None

    def label_map(self) -> dict[int, int] | None:
        """Return label → class, where the labels of a known data set leave numbers out; None keeps them."""
        return None

    @property
    def layout(self) -> str:
        """What was recognised, in a phrase."""
        return type(self).__name__


@dataclass(frozen=True)
class Listing:
    """The files of a set of cases.

    Args:
        layout: how they are laid out, in a phrase.
        images: case → its image files, one for each sequence, or one that holds all of them.
        labels: case → its label file, for those that have one.
        sequences: names of the channels; () numbers them.
        stored: sequences that each file holds along its fourth axis; None takes what there is.
        chosen: numbers of the channels that are used; None for all.
        structures: name → labels, where the data say so.
        label_map: label → class, where a data set is known to leave numbers out.
    """

    layout: str
    images: Mapping[str, Sequence[Path]]
    labels: Mapping[str, Path] = field(default_factory=dict)
    sequences: tuple[str, ...] = ()
    stored: int | None = 1
    chosen: tuple[int, ...] | None = None
    structures: dict[str, list[int]] | None = None
    label_map: dict[int, int] | None = None

    def choose(self, names: Sequence[str], where: str) -> "Listing":
        """Return the listing with some of the sequences, in the given order.

        Args:
            names: of the sequences.
            where: what lists them, named in the error.

        Raises:
            DataError: if one is not there.
        """
        for name in names:
            if name not in self.sequences:
                raise DataError(f"{where} has no modality {name!r}. {suggest(name, self.sequences)}")
        chosen = tuple(self.sequences.index(name) for name in names)
        if any(len(files) == 1 for files in self.images.values()):
            return replace(self, sequences=tuple(names), chosen=chosen)
        images = {case: [files[number] for number in chosen] for case, files in self.images.items()}
        return replace(self, sequences=tuple(names), images=images)


class FileSource(CaseSource):
    """Cases whose files are listed once, when they are first asked for.

    Args:
        place: file or folder that holds the cases, named in errors.
    """

    def __init__(self, place: Path) -> None:
        self.place = place

    @abstractmethod
    def find(self) -> Listing:
        """List the files.

        Raises:
            DataError: if they cannot be used as they are.
        """

    @cached_property
    def listing(self) -> Listing:
        """The files of all cases."""
        return self.find()

    def names(self) -> list[str]:
        """Return the names of the cases that have a label, sorted; of all, if none has one."""
        return sorted(self.listing.labels or self.listing.images)

    def unlabelled(self) -> list[str]:
        """Return the names of the cases without a label, sorted."""
        return sorted(self.listing.images.keys() - self.listing.labels.keys())

    def load(self, name: str) -> Scan:
        """Return one case with the chosen sequences as channels; its label is None where there is none."""
        listing = self.listing
        scan = read_scan(
            name, pick(listing.images, name, str(expand(self.place))), listing.labels.get(name), listing.stored
        )
        return scan if listing.chosen is None else replace(scan, image=scan.image[list(listing.chosen)])

    def sequences(self, channels: int | None = None) -> list[str]:
        """Return the names of the channels; their numbers where they have none, or one file holds several."""
        named, numbered = list(self.listing.sequences), self.listing.stored is None or not self.listing.sequences
        found = super().sequences(channels) if numbered else named
        return named if len(named) == len(found) else found

    def structures(self) -> dict[str, list[int]] | None:
        """Return name → labels of each structure, where the data say so."""
        return self.listing.structures

    def label_map(self) -> dict[int, int] | None:
        """Return label → class, where a data set is known to leave numbers out."""
        return self.listing.label_map

    @property
    def layout(self) -> str:
        """How the files are laid out, in a phrase."""
        return self.listing.layout


def pick(cases: Mapping[str, Found], name: str, place: str) -> Found:
    """Return the entry of a case of a source.

    Args:
        cases: name → entry.
        name: of the case.
        place: what holds the cases, named in the error.

    Raises:
        DataError: if there is no such case.
    """
    if name not in cases:
        raise DataError(f"{place} has no case {name!r}: it has {len(cases)}, {min(cases)} to {max(cases)}.")
    return cases[name]
