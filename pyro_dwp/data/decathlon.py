"""Tasks of the Medical Segmentation Decathlon, and what a dataset.json says: theirs or nnU-Net's."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, final

from annotated_types import MinLen

from pyro_dwp.checks import checked
from pyro_dwp.data.folder_pairs import numbered_files
from pyro_dwp.data.layouts import FileSource, Listing
from pyro_dwp.data.paths import case_name, existing_folder, readable
from pyro_dwp.errors import DataError
from pyro_dwp.files import read_json

FILE = "dataset.json"
CURE = "Name the folder of a Decathlon task, copy the file again, or use folder_pairs (two folders, no dataset.json)."
KINDS = ("image", "label")
NO_STRUCTURE = ("background", "ignore")


@final
class Decathlon(FileSource):
    """A task of the Medical Segmentation Decathlon: dataset.json, imagesTr/, labelsTr/.

    Only the training cases are used, because the test cases of a task have no labels. A task with several modalities stores
    them along the fourth axis of each image, or, as nnU-Net does, in files NAME_0000.nii.gz, NAME_0001.nii.gz and so on.

    Args:
        folder: folder of the task; ~ and environment variables are replaced.
        modalities: names of the modalities to use, as in dataset.json; None for all of them.

    References:
        Antonelli et al. 2022, The Medical Segmentation Decathlon, Nature Communications 13:4128.
    """

    @checked
    def __init__(self, folder: Path, modalities: Annotated[list[str], MinLen(1)] | None = None) -> None:
        super().__init__(folder)
        self.folder, self.modalities = folder, modalities

    def find(self) -> Listing:
        """List the training cases, after checking that all their files exist."""
        listing = list_task(self.folder)
        file = existing_folder(self.folder) / FILE
        return listing if self.modalities is None else listing.choose(self.modalities, str(file))


def list_task(folder: Path) -> Listing:
    """List the training cases that the dataset.json of a folder names, after checking that all their files exist.

    Args:
        folder: of the task; ~ and environment variables are replaced.

    Raises:
        DataError: if dataset.json is missing or wrong, or names a file that does not exist.
    """
    file = existing_folder(folder) / FILE
    description = read_json(file, "the description of a Decathlon task", CURE)
    if not isinstance(description.get("training"), list):
        raise DataError(f"{file} has no list 'training' of image and label files. {CURE}")
    modalities = modalities_of(description, file)
    images: dict[str, list[Path]] = {}
    labels: dict[str, Path] = {}
    for entry in description["training"]:
        if not isinstance(entry, dict) or not all(isinstance(entry.get(kind), str) for kind in KINDS):
            raise DataError(
                f"Each training case has the path of an image and of a label, but {file} lists {entry!r}. Add what is missing, "
                "or remove the entry."
            )
        name = case_name(Path(entry["image"]))
        if name in images:
            raise DataError(f"{file} lists the case {name} twice. Remove one entry.")
        numbered = numbered_files(file.parent / entry["image"], len(modalities))
        images[name] = numbered or [_existing(file, entry, "image")]
        labels[name] = _existing(file, entry, "label")
    if not images:
        raise DataError(f"The list 'training' of {file} is empty. Add cases, or name another task.")
    stored = 1 if any(len(files) > 1 for files in images.values()) else len(modalities)
    named = structures_of(description)
    return Listing("a Decathlon task (dataset.json)", images, labels, tuple(modalities), stored, structures=named)


def _existing(file: Path, entry: Mapping[str, str], kind: str) -> Path:
    path = file.parent / entry[kind]
    with readable(path):
        if not path.is_file():
            raise DataError(
                f"{file} names the {kind} {entry[kind]}, but {path} does not exist. Add the file, or remove the entry."
            )
    return path


def modalities_of(description: Mapping[str, Any], file: Path) -> list[str]:
    """Return the names of the sequences in the order in which the images store them.

    Args:
        description: content of a dataset.json, with 'modality' (the Decathlon) or 'channel_names' (nnU-Net).
        file: named in the error.

    Raises:
        DataError: if they are not numbered from 0.
    """
    key = "channel_names" if "channel_names" in description else "modality"
    modality = description.get(key, {"0": "image"})
    numbered = isinstance(modality, dict) and sorted(modality) == sorted(map(str, range(len(modality))))
    if not numbered or not modality or not all(isinstance(name, str) for name in modality.values()):
        raise DataError(
            f'\'{key}\' in {file} numbers the sequences from 0, such as {{"0": "FLAIR", "1": "T1"}}, but is {modality!r}. '
            "Correct the file."
        )
    return [modality[number] for number in sorted(modality, key=int)]


def structures_of(description: Mapping[str, Any]) -> dict[str, list[int]] | None:
    """Return name → labels of each structure that a dataset.json names; None if it names none, or in another form.

    Example:
        >>> structures_of({"labels": {"0": "background", "1": "liver"}})
        {'liver': [1]}
        >>> structures_of({"labels": {"background": 0, "whole": [1, 2], "core": 2}})
        {'whole': [1, 2], 'core': [2]}
    """
    labels = description.get("labels")
    if not isinstance(labels, dict):
        return None
    named: dict[Any, Any] = (
        {name: int(key) for key, name in labels.items()} if all(str(key).isdecimal() for key in labels) else labels
    )
    found: dict[str, list[int]] = {}
    for name, members in named.items():
        listed = members if isinstance(members, list) else [members]
        if not isinstance(name, str) or not all(type(label) is int for label in listed):
            return None
        if name.lower() not in NO_STRUCTURE and any(label > 0 for label in listed):
            found[name] = listed
    return found if found and len(named) == len(labels) else None
