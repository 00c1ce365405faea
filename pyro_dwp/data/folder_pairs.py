"""Two folders, one of images and one of labels, in which the files of a case have the same name."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, final

from annotated_types import Ge, Le

from pyro_dwp.checks import checked
from pyro_dwp.data.layouts import FileSource, Listing
from pyro_dwp.data.paths import case_name, expand, extension_of, readable, scan_files
from pyro_dwp.errors import DataError

CHANNEL = re.compile(r"(?P<case>.+)_(?P<number>\d{4})")
Channels = Annotated[int, Ge(1), Le(1000)]


@final
class FolderPairs(FileSource):
    """A folder of images and a folder of labels in which the files of one case have the same name.

    The files are volumes (NIfTI, MHA, NRRD), images (NIfTI of two axes, PNG), or folders of PNG slices; see `scan_files` and
    `load_png`. Several sequences of a case are files NAME_0000.nii.gz, NAME_0001.nii.gz and so on beside a label NAME.nii.gz, as
    nnU-Net names them, or lie along the fourth axis of one file; the colours of a PNG are channels, too. Labels without an image
    are ignored; an image without a label is an error.

    Args:
        images: folder of scans, or one file; ~ and environment variables are replaced.
        labels: folder of labels; None where there is no truth, as in prediction.
        channels: sequences of each case; None takes as many as it has files NAME_0000, NAME_0001, …, otherwise one (of PNG: its
            colours).
    """

    @checked
    def __init__(self, images: Path, labels: Path | None = None, channels: Channels | None = None) -> None:
        super().__init__(images)
        self.images, self.labels, self.channels = images, labels, channels

    def find(self) -> Listing:
        """List the cases; their names are those of the images, without extension and number of the sequence.

        Raises:
            DataError: if an image has no label, or a folder cannot be used.
        """
        listing = list_pairs(self.images, self.labels, self.channels)
        alone = sorted(listing.images.keys() - listing.labels.keys())
        if alone and self.labels is not None:
            raise DataError(
                f"Each image has a label of the same name, but {len(alone)} of {len(listing.images)} images have none in "
                f"{expand(self.labels)}: {', '.join(alone[:5])}{' …' if len(alone) > 5 else ''}. "
                "Add the labels, or move these images elsewhere."
            )
        return listing


def list_pairs(images: Path, labels: Path | None = None, channels: int | None = None) -> Listing:
    """List the cases of a folder of images, and the labels of the same names in another.

    Args:
        images: folder of scans, or one file.
        labels: folder of labels; None where there is no truth.
        channels: sequences of each case; None where it is unknown.

    Raises:
        DataError: if a folder cannot be used, or a case lacks a sequence.
    """
    path = expand(images)
    with readable(path):
        files = {case_name(path): path} if path.is_file() else scan_files(path)
    single = {name: [file] for name, file in files.items()}
    if labels is None:
        found, truths, layout = by_channel(files, channels) or single, {}, "images without labels"
    else:
        truths = scan_files(labels, results=True)
        numbered = {match["case"] for name in files if (match := CHANNEL.fullmatch(name))}
        nnunet = not files.keys() & truths.keys() and bool(numbered & truths.keys())
        found = (by_channel(files, channels, labelled=True) if nnunet else None) or single
        layout = "a folder of images and one of labels"
    several = max(map(len, found.values()))
    sequences = tuple(f"{number:04d}" for number in range(several)) if several > 1 else ()
    stored = 1 if several > 1 else channels or 1
    return Listing(layout, found, {name: truths[name] for name in found if name in truths}, sequences, stored)


def numbered_files(path: Path, count: int) -> list[Path]:
    """Return NAME_0000, NAME_0001, … of a file NAME that does not exist itself, as in nnU-Net; [] if one of them is missing.

    Args:
        path: NAME with its extension.
        count: of the sequences.
    """
    ending = extension_of(path)
    files = [path.with_name(f"{case_name(path)}_{number:04d}{ending}") for number in range(count)]
    with readable(path):
        return [] if path.exists() or not all(file.is_file() for file in files) else files


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
