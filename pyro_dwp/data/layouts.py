"""Where cases come from: folders on disk, laid out in one of the common ways.

A source names its cases and loads one at a time, with the labels as they are stored. Files are looked for when names are first
asked for, not when a source is built, so that settings can be read on a machine without data. Folders are given as `str`, since
they may contain environment variables, such as "${PYRO_DWP_DATA}/lgg".
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypeVar, final

from annotated_types import Ge, Le, MinLen

from pyro_dwp.checks import checked
from pyro_dwp.data.paths import case_name, existing_folder, expand, readable, scan_files
from pyro_dwp.data.reading import read_scan
from pyro_dwp.data.scan import Scan
from pyro_dwp.errors import DataError, suggest
from pyro_dwp.files import read_json

CHANNEL = re.compile(r"(?P<case>.+)_(?P<number>\d{4})")
Found = TypeVar("Found")


class CaseSource(ABC):
    """A set of named cases."""

    @abstractmethod
    def names(self) -> list[str]:
        """Return the names of all cases, sorted.

        Raises:
            DataError: if the source does not exist, is empty, or lacks a file that it should have.
        """

    @abstractmethod
    def load(self, name: str) -> Scan:
        """Return one case on its own grid, with its labels as they are stored.

        Raises:
            DataError: if there is no such case, or a file of it cannot be used.
        """


@final
class Decathlon(CaseSource):
    """A task of the Medical Segmentation Decathlon: dataset.json, imagesTr/, labelsTr/.

    Only the training cases are used, because the test cases of a task have no labels. A task with several modalities stores
    them along the fourth axis of each image.

    Args:
        folder: folder of the task; ~ and environment variables are replaced.
        modalities: names of the modalities to use, as in dataset.json; None for all of them.

    References:
        Antonelli et al. 2022, The Medical Segmentation Decathlon, Nature Communications 13:4128.
    """

    @checked
    def __init__(self, folder: Path, modalities: Annotated[list[str], MinLen(1)] | None = None) -> None:
        self.folder, self.modalities = folder, modalities

    def names(self) -> list[str]:
        """Return the names of the training cases, sorted, after checking that all their files exist."""
        return sorted(self._cases)

    def load(self, name: str) -> Scan:
        """Return one training case with the chosen modalities as channels."""
        image, label = pick(self._cases, name, str(expand(self.folder)))
        scan = read_scan(name, [image], label, modalities=len(self._available))
        if self.modalities is None:
            return scan
        return replace(scan, image=scan.image[[self._available.index(wanted) for wanted in self.modalities]])

    @cached_property
    def _file(self) -> Path:
        return existing_folder(self.folder) / "dataset.json"

    @cached_property
    def _description(self) -> dict[str, Any]:
        cure = "Name the folder of a Decathlon task, copy the file again, or use folder_pairs (two folders, no dataset.json)."
        description = read_json(self._file, "the description of a Decathlon task", cure)
        if not isinstance(description.get("training"), list):
            raise DataError(f"{self._file} has no list 'training' of image and label files. {cure}")
        return description

    @cached_property
    def _available(self) -> list[str]:
        """Names of the modalities in the order in which the images store them."""
        modality = self._description.get("modality", {"0": "image"})
        numbered = isinstance(modality, dict) and sorted(modality) == sorted(map(str, range(len(modality))))
        if not numbered or not modality or not all(isinstance(name, str) for name in modality.values()):
            raise DataError(
                f'\'modality\' in {self._file} numbers the sequences from 0, such as {{"0": "FLAIR", "1": "T1"}}, but is '
                f"{modality!r}. Correct the file."
            )
        available = [modality[key] for key in sorted(modality, key=int)]
        for wanted in self.modalities or ():
            if wanted not in available:
                raise DataError(f"{self._file} has no modality {wanted!r}. {suggest(wanted, available)}")
        return available

    @cached_property
    def _cases(self) -> dict[str, tuple[Path, Path]]:
        cases: dict[str, tuple[Path, Path]] = {}
        for entry in self._description["training"]:
            kinds = ("image", "label")
            if not isinstance(entry, dict) or not all(isinstance(entry.get(kind), str) for kind in kinds):
                raise DataError(
                    f"Each training case has the path of an image and of a label, but {self._file} lists {entry!r}. "
                    "Add what is missing, or remove the entry."
                )
            image, label = (self._file.parent / entry[kind] for kind in kinds)
            for path, kind in ((image, "image"), (label, "label")):
                with readable(path):
                    if not path.is_file():
                        raise DataError(
                            f"{self._file} names the {kind} {entry[kind]}, but {path} does not exist. "
                            "Add the file, or remove the entry."
                        )
            if case_name(image) in cases:
                raise DataError(f"{self._file} lists the case {case_name(image)} twice. Remove one entry.")
            cases[case_name(image)] = image, label
        if not cases:
            raise DataError(f"The list 'training' of {self._file} is empty. Add cases, or name another task.")
        return cases


@final
class FolderPairs(CaseSource):
    """A folder of images and a folder of labels in which the files of one case have the same name.

    The files are NIfTI (3-D, or images of two axes), PNG images, or folders of PNG slices; see `scan_files` and `load_png`.
    Several sequences of a case are files NAME_0000.nii.gz, NAME_0001.nii.gz and so on beside a label NAME.nii.gz, as nnU-Net
    names them, or lie along the fourth axis of one file; the colours of a PNG are channels, too. Labels without an image are
    ignored; an image without a label is an error.

    Args:
        images: folder of scans, or one file; ~ and environment variables are replaced.
        labels: folder of labels; None where there is no truth, as in prediction.
        channels: sequences of each case; None takes as many as it has files NAME_0000, NAME_0001, …, otherwise one (of PNG: its
            colours).
    """

    @checked
    def __init__(
        self, images: Path, labels: Path | None = None, channels: Annotated[int, Ge(1), Le(1000)] | None = None
    ) -> None:
        self.images, self.labels, self.channels = images, labels, channels

    def names(self) -> list[str]:
        """Return the names of the cases, sorted: the image files' names without extension and sequence number."""
        return sorted(self._cases)

    def load(self, name: str) -> Scan:
        """Return one case; its label is None where the source has no labels."""
        images, label = pick(self._cases, name, str(expand(self.images)))
        return read_scan(name, images, label, modalities=(self.channels or 1) if len(images) == 1 else 1)

    @cached_property
    def _cases(self) -> dict[str, tuple[list[Path], Path | None]]:
        path = expand(self.images)
        with readable(path):
            files = {case_name(path): path} if path.is_file() else scan_files(path)
        single = {name: [path] for name, path in files.items()}
        if self.labels is None:
            return {name: (paths, None) for name, paths in (by_channel(files, self.channels) or single).items()}
        labels = scan_files(self.labels, results=True)
        numbered = {match["case"] for name in files if (match := CHANNEL.fullmatch(name))}
        nnunet = not files.keys() & labels.keys() and bool(numbered & labels.keys())
        grouped = by_channel(files, self.channels, labelled=True) if nnunet else None
        images = grouped or single
        alone = sorted(images.keys() - labels.keys())
        if alone:
            raise DataError(
                f"Each image has a label of the same name, but {len(alone)} of {len(images)} images have none in "
                f"{expand(self.labels)}: {', '.join(alone[:5])}{' …' if len(alone) > 5 else ''}. "
                "Add the labels, or move these images elsewhere."
            )
        return {name: (paths, labels[name]) for name, paths in images.items()}


def by_channel(
    files: Mapping[str, Path], channels: int | None = None, labelled: bool = False
) -> dict[str, list[Path]] | None:
    """Group files NAME_0000, NAME_0001, … by NAME, in order, as nnU-Net names the sequences of a case.

    Args:
        files: name without extension → path.
        channels: sequences of each case; None where it is unknown.
        labelled: whether the labels are called NAME, so that a numbered file must be a sequence.

    Returns:
        Case → its files; None if the numbers might equally count the cases: patient_0000, patient_0001, ….

    Raises:
        DataError: if files are known to be sequences, and one is missing.

    Example:
        >>> by_channel({name: Path(name) for name in ("a_0000", "a_0001", "b_0000", "b_0001")})["b"]
        [PosixPath('b_0000'), PosixPath('b_0001')]
    """
    groups: dict[str, dict[int, Path]] = {}
    for name, path in files.items():
        match = CHANNEL.fullmatch(name)
        if match is None and not labelled:
            return None
        if match is None:
            raise DataError(f"{path} has no sequence number, unlike the other files. Call it {name}_0000, or move it.")
        groups.setdefault(match["case"], {})[int(match["number"])] = path
    wanted = channels or max(map(len, groups.values()))
    broken = [case for case, found in groups.items() if sorted(found) != list(range(wanted))]
    if broken and labelled:
        found = ", ".join(path.name for path in groups[broken[0]].values())
        raise DataError(
            f"Each case has {wanted} sequence(s), numbered from NAME_0000, but {broken[0]} has {found}. Add the missing files, "
            "or move the case elsewhere."
        )
    if broken or (channels is None and not labelled and len(groups) == 1 and wanted > 1):
        return None
    return {case: [found[number] for number in sorted(found)] for case, found in groups.items()}


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
