"""Where cases come from: folders on disk, laid out in one of the common ways.

A source names its cases and loads one at a time, with the labels as they are stored. Files are looked for when
names are first asked for, not when a source is built, so that a configuration can be read on a machine without data.
"""

import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, final

from pyro_dwp.data.nifti import EXTENSIONS, case_name, read_scan
from pyro_dwp.data.scan import Scan
from pyro_dwp.errors import DataError, suggest


def expand(folder: str | Path) -> Path:
    """Return a path in which ~ and environment variables are replaced.

    Args:
        folder: as the configuration has it, for instance "${PYRO_DWP_DATA}/hippocampus".

    Raises:
        DataError: if a variable is not set.
    """
    expanded = os.path.expandvars(os.path.expanduser(str(folder)))
    unset = re.search(r"\$(\w+)|\$\{(\w+)\}", expanded)
    if unset:
        variable = unset[1] or unset[2]
        raise DataError(
            f"The path {str(folder)!r} needs the environment variable {variable}, which is not set. "
            f"Set it (export {variable}=/path/to/data), or give the path in full."
        )
    return Path(expanded)


class CaseSource(ABC):
    """A set of named cases."""

    @abstractmethod
    def names(self) -> list[str]:
        """Return the names of all cases, sorted.

        Raises:
            DataError: if the source is not there, is empty, or lacks a file that it should have.
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

    Only the training cases are used, because the test cases of a task have no labels. A task with several
    modalities stores them along the fourth axis of each image.

    Args:
        folder: of the task; ~ and environment variables are replaced.
        modalities: names of those to use, as dataset.json has them; None for all of them.

    References:
        Antonelli et al. 2022, The Medical Segmentation Decathlon, Nature Communications 13:4128.
    """

    def __init__(self, folder: str, modalities: Sequence[str] | None = None) -> None:
        self.folder, self.modalities = folder, modalities

    def names(self) -> list[str]:
        """Return the names of the training cases, sorted; all their files are known to exist."""
        return sorted(self._cases)

    def load(self, name: str) -> Scan:
        """Return one training case with the chosen modalities as channels."""
        image, label = _pick(self._cases, name, self.folder)
        scan = read_scan(name, [image], label, modalities=len(self._available))
        if self.modalities is None:
            return scan
        return Scan(
            name, scan.image[[self._available.index(wanted) for wanted in self.modalities]], scan.label, scan.affine
        )

    @cached_property
    def _file(self) -> Path:
        return _existing_folder(self.folder) / "dataset.json"

    @cached_property
    def _description(self) -> dict[str, Any]:
        try:
            description = json.loads(self._file.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise DataError(
                f"A Decathlon task has a dataset.json, but {self._file} does not exist. "
                "Name the task's own folder, or use folder pairs."
            ) from error
        except (OSError, ValueError) as error:
            raise DataError(f"{self._file} is not readable JSON: {error}. Copy it from the task again.") from error
        if not isinstance(description, dict) or not isinstance(description.get("training"), list):
            raise DataError(f"{self._file} has no list 'training'. Copy it from the task again.")
        return description

    @cached_property
    def _available(self) -> list[str]:
        """Names of the modalities in the order in which the images store them."""
        modality = self._description.get("modality", {"0": "image"})
        available = [str(modality[key]) for key in sorted(modality, key=int)]
        for wanted in self.modalities or ():
            if wanted not in available:
                raise DataError(f"{self._file} has no modality {wanted!r}. {suggest(wanted, available)}")
        return available

    @cached_property
    def _cases(self) -> dict[str, tuple[Path, Path]]:
        cases: dict[str, tuple[Path, Path]] = {}
        for entry in self._description["training"]:
            if not isinstance(entry, dict) or not {"image", "label"} <= entry.keys():
                raise DataError(
                    f"Each training case has an image and a label, but {self._file} lists {entry}. "
                    "Add the missing file, or remove the entry."
                )
            image, label = (self._file.parent / entry[key] for key in ("image", "label"))
            for path, kind in ((image, "image"), (label, "label")):
                if not path.is_file():
                    raise DataError(
                        f"{self._file} names the {kind} {entry[kind]}, but {path} does not exist. "
                        "Add the file, or remove the entry."
                    )
            if case_name(image) in cases:
                raise DataError(f"{self._file} lists the case {case_name(image)} twice. Remove one entry.")
            cases[case_name(image)] = image, label
        return _not_empty(cases, f"The list 'training' of {self._file}")


@final
class FolderPairs(CaseSource):
    """A folder of images and a folder of labels in which the files of one case have the same name.

    Labels without an image are ignored; an image without a label is an error.

    Args:
        images: folder of NIfTI files, one 3-D image each; ~ and environment variables are replaced.
        labels: folder of NIfTI files; None where there is no truth, which is enough for prediction.
    """

    def __init__(self, images: str, labels: str | None = None) -> None:
        self.images, self.labels = images, labels

    def names(self) -> list[str]:
        """Return the names of the image files without extension, sorted."""
        return sorted(self._cases)

    def load(self, name: str) -> Scan:
        """Return one case; its label is None where the source has no labels."""
        image, label = _pick(self._cases, name, self.images)
        return read_scan(name, [image], label)

    @cached_property
    def _cases(self) -> dict[str, tuple[Path, Path | None]]:
        images = nifti_files(self.images)
        if self.labels is None:
            return {name: (path, None) for name, path in images.items()}
        labels = nifti_files(self.labels)
        alone = sorted(images.keys() - labels.keys())
        if alone:
            raise DataError(
                f"Each image has a label of the same name, but {len(alone)} of {len(images)} images have none in "
                f"{expand(self.labels)}: {', '.join(alone[:5])}{' …' if len(alone) > 5 else ''}. "
                "Add the labels, or move these images elsewhere."
            )
        return {name: (path, labels[name]) for name, path in images.items()}


def nifti_files(folder: str | Path) -> dict[str, Path]:
    """Map the name of each NIfTI file of a folder, without extension, to its path; hidden files are left out.

    Args:
        folder: ~ and environment variables are replaced.

    Raises:
        DataError: if the folder is missing or has no NIfTI file, or two files differ only in their extension.
    """
    root = _existing_folder(folder)
    files: dict[str, Path] = {}
    for path in sorted(root.iterdir()):
        if path.name.endswith(EXTENSIONS) and not path.name.startswith("."):
            if case_name(path) in files:
                raise DataError(f"{root} has both {files[case_name(path)].name} and {path.name}. Remove one.")
            files[case_name(path)] = path
    return _not_empty(files, f"The folder {root}")


def _existing_folder(folder: str | Path) -> Path:
    path = expand(folder)
    if not path.is_dir():
        found = "is a file" if path.exists() else "does not exist"
        raise DataError(f"A folder of scans is needed, but {path} {found}. Check the path.")
    return path


def _not_empty(cases: dict[str, Any], place: str) -> dict[str, Any]:
    if not cases:
        raise DataError(f"{place} has no case. Put scans (.nii.gz or .nii) there, or name another one.")
    return cases


def _pick(cases: dict[str, Any], name: str, place: str) -> Any:
    if name not in cases:
        raise DataError(f"{expand(place)} has no case {name!r}: it has {len(cases)}, {min(cases)} to {max(cases)}.")
    return cases[name]
