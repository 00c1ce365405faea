"""A folder of scans in any usual layout: what is an image, what is a label and what belongs together is read off the names."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, final

from pyro_dwp.checks import checked
from pyro_dwp.data.folder_pairs import Channels, list_pairs
from pyro_dwp.data.kinds import Kinds
from pyro_dwp.data.layouts import FileSource, Listing
from pyro_dwp.data.path_table import TABLE, list_table
from pyro_dwp.data.paths import existing_folder, expand, readable
from pyro_dwp.data.patterns import CASE, pattern_of
from pyro_dwp.data.recognise import described, recognise, tree
from pyro_dwp.errors import DataError


@final
class Folder(FileSource):
    """Cases found in a folder, whatever its layout.

    Recognised are tasks of the Decathlon and of nnU-Net; a folder of images and one of labels; one folder of files NAME_flair,
    NAME_mask and the like; a folder for each case; BraTS 2015 to 2023; BIDS with labels in derivatives/; a table of paths (CSV);
    and images alone. Where names leave a choice, nothing is guessed: an error lists what was seen.

    Args:
        folder: folder of the data set, a CSV file with the columns case, label and one for each sequence, or one scan; ~ and
            environment variables are replaced.
        images: which files are the images, one for each sequence: words in their names, such as flair,t1, or patterns such as
            "{case}/{case}_flair.nii.gz" (* stands for any text); null takes all that are not called like a label.
        label: which files are the labels, in the same way; null takes those that are called like one (mask, seg, lesion, …).
        channels: sequences of each case, needed only where names leave it open.

    Example:
        >>> Folder("${SCANS}", images="flair, t1").images
        ['flair', 't1']
    """

    @checked
    def __init__(
        self,
        folder: Path,
        images: str | list[str] | None = None,
        label: str | None = None,
        channels: Channels | None = None,
    ) -> None:
        super().__init__(folder)
        words = images.split(",") if isinstance(images, str) else images or []
        self.folder, self.label, self.channels = folder, label, channels
        self.images = [word.strip() for word in words] or None

    @classmethod
    def like(cls, folder: Path | str, channels: int, sequences: Sequence[str] = ()) -> "Folder":
        """Return the scans of a folder with the sequences that a network learned from, in its order.

        Args:
            folder: as for the class.
            channels: of the network.
            sequences: names of the channels, or their numbers.

        Raises:
            DataError: if there is no scan, or files of several sequences have other names.
        """
        plain, chosen = cls(Path(folder), channels=channels), cls(Path(folder), images=list(sequences) or None)
        if not sequences or all(name.isdecimal() for name in sequences):
            return plain
        try:
            single = {case for case, files in plain.listing.images.items() if len(files) == 1}
        except DataError:  # names leave a choice, which the names of the sequences decide
            return chosen
        if len(single) < len(plain.listing.images):
            return chosen
        try:
            every = all(any(name.startswith(case) for case in chosen.listing.images) for name in single)
        except DataError:  # one file for each case, whatever it is called
            return plain
        return chosen if every else plain

    def find(self) -> Listing:
        """List the cases.

        Raises:
            DataError: if there is no scan, or its layout is unclear.
        """
        path, named = expand(self.folder), self.images is not None or self.label is not None
        if path.name.endswith(TABLE):
            return list_table(path, self.images, self.label)
        with readable(path):
            if path.is_file():
                return list_pairs(path, None, self.channels)
        root = existing_folder(path)
        if any(CASE in text for text in [*(self.images or []), self.label or ""]):
            found: Kinds | Listing = described(root, self.images or [], self.label)
        else:
            found = recognise(root, self.channels, named)
        if isinstance(found, Kinds):
            return found.listing(self.images, self.label)
        if self.label is not None:
            raise DataError(
                f"{root} is {found.layout}, which says what the labels are, but label is {self.label!r}. Leave it out."
            )
        if self.images:
            return found.choose(self.images, str(root))
        return found if found.sequences or self.channels else replace(found, stored=None)

    def settings(self) -> dict[str, Any]:
        """Return settings that name the files explicitly, by patterns where there are some, for a config."""
        listing, root = self.listing, expand(self.folder)
        files = tree(root) if root.is_dir() else []
        relative = lambda found: {case: path.relative_to(root).as_posix() for case, path in found.items()}  # noqa: E731
        images: list[str | None] = []
        label = None
        if files and all(len(paths) == max(1, len(listing.sequences)) for paths in listing.images.values()):
            count = len(next(iter(listing.images.values())))
            truths = relative(listing.labels)
            label = pattern_of(truths, files) if truths else None
            rest = sorted({*files} - {*truths.values()})
            images = [
                pattern_of(relative({case: p[n] for case, p in listing.images.items()}), rest) for n in range(count)
            ]
        if not images or None in images or (listing.labels and label is None) or (root / "dataset.json").exists():
            return {"folder": str(self.folder), "images": self.images, "label": self.label}
        return {"folder": str(self.folder), "images": images, "label": label}
