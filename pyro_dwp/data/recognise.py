"""What is in a folder of scans: the usual layouts, told apart by the names of folders and files alone."""

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from pyro_dwp.data.decathlon import FILE, list_task, modalities_of, structures_of
from pyro_dwp.data.folder_pairs import list_pairs
from pyro_dwp.data.kinds import DERIVED, Kinds, by_prefix, is_label, put
from pyro_dwp.data.layouts import Listing
from pyro_dwp.data.paths import CHOOSE, PNG, png_slices, readable
from pyro_dwp.data.patterns import CASE, ENDINGS, SEPARATORS, matches, replace_case, split_ending
from pyro_dwp.errors import UNPRINTABLE, ConfigError, DataError
from pyro_dwp.files import read_json

DEEPEST = 8  # folders below each other that are searched
BIDS = re.compile(r"(sub-[^_/]+(?:_ses-[^_/]+)?)_(.+)")
BRATS_2015 = re.compile(r"VSD\.Brain[^/]*\.(?:MR_)?(\w+)\.\d+")
OTHER_PART = {"ts", "test", "testing"}


def tree(root: Path) -> list[str]:
    """Return the scans below a folder, as paths relative to it; pictures (PNG) only if there is no volume.

    Raises:
        DataError: if the folder cannot be read, or a name cannot be printed.
    """
    found = []
    with readable(root):
        for folder, folders, files in os.walk(root, followlinks=True):
            deep = len(Path(folder).relative_to(root).parts) >= DEEPEST
            folders[:] = [] if deep else sorted(name for name in folders if not name.startswith("."))
            names = [name for name in sorted(files) if not name.startswith(".") and name.lower().endswith(ENDINGS)]
            found += [(Path(folder) / name).relative_to(root).as_posix() for name in names]
    if odd := [path for path in found if UNPRINTABLE.search(path)]:
        raise DataError(f"{root} has a file with a line break or the like in its name: {odd[0]!a}. Rename it.")
    return [path for path in found if not path.lower().endswith(PNG)] or found


def described(root: Path, images: list[str], label: str | None) -> Kinds:
    """Return the files that patterns describe.

    Args:
        root: folder.
        images: patterns, one for each sequence.
        label: pattern of the label.

    Raises:
        ConfigError: if one of them has no {case}.
    """
    patterns = [*images, *([label] if label else [])]
    for pattern in patterns:
        if CASE not in pattern:
            raise ConfigError(
                f"Images and label are both given by words or both by patterns with {CASE}, but {pattern!r} has none beside "
                f"{patterns}. Write it such as '{{case}}_mask.nii.gz'."
            )
    files = tree(root)
    truths = {label: matches(label, files)} if label else {}
    rest = sorted(
        {*files}.difference(*(found.values() for found in truths.values()))
    )  # "{case}.nii.gz" fits labels, too
    found = {pattern: matches(pattern, rest) for pattern in images} | truths
    if empty := [pattern for pattern, held in found.items() if not held]:
        raise DataError(
            f"{root} has no file of the form {empty[0]!r} among {len(files)}, such as {', '.join(files[:3])}. Correct the "
            "pattern; it describes paths below this folder."
        )
    return Kinds(root, "files described by patterns", found)


def recognise(root: Path, channels: int | None = None, named: bool = False) -> Kinds | Listing:
    """Find out how the scans of a folder are laid out.

    Args:
        root: folder.
        channels: sequences of each case, where it is known.
        named: whether the user names the sequences, so that a word at the end of a file's name may be one.

    Raises:
        DataError: if there is no scan, or the names fit no layout.
    """
    if (root / FILE).exists():
        return _described_task(root)
    if pair := _two_folders(root):
        listing = list_pairs(*pair, channels=channels)
        if listing.labels and not named:
            return listing
    files = tree(root)
    if not files:
        raise DataError(f"The folder {root} and those in it have no scan. {CHOOSE}")
    if any(path.startswith("sub-") for path in files):
        return Kinds(root, "BIDS", _bids(files))
    if any(BRATS_2015.search(path) for path in files):
        return Kinds(root, "a folder for each file of a case", _brats_2015(files))
    depths = {path.count("/") for path in files}
    if depths == {0}:
        return _flat(root, files, channels, named)
    if 0 in depths:
        loose = [path for path in files if "/" not in path]
        raise DataError(
            f"Scans lie in one folder or in folders for each case, but {root} has {loose[0]} beside {files[-1]}. Move one of "
            "them, or describe the files by patterns, such as --data.images '{case}/{case}_flair.nii.gz'."
        )
    return _nested(root, files, channels)


def _described_task(root: Path) -> Listing:
    """List the cases of a folder with a dataset.json: of the Decathlon or of nnU-Net."""
    description = read_json(root / FILE, "the description of a data set", "Remove it, or copy it again.")
    if "training" in description:
        return list_task(root)
    names = modalities_of(description, root / FILE)
    found = list_pairs(root / "imagesTr", root / "labelsTr", len(names))
    structures = structures_of(description)
    return Listing(
        "nnU-Net (dataset.json)", found.images, found.labels, tuple(names), found.stored, structures=structures
    )


def _two_folders(root: Path) -> tuple[Path, Path] | None:
    """Return the folder of images and that of labels, if there is one of each that holds scans or folders of PNG slices."""
    with readable(root):
        folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
        kept = [
            path
            for path in folders
            if not OTHER_PART & {word.lower() for word in re.findall("[A-Z]?[a-z]+", path.name)}
        ]
        held = [path for path in kept if any(_is_scan(file) for file in path.iterdir())]
    labels = [path for path in held if is_label(path.name)]
    images = [path for path in held if not is_label(path.name)]
    return (images[0], labels[0]) if len(labels) == len(images) == 1 else None


def _is_scan(path: Path) -> bool:
    return path.name.lower().endswith(ENDINGS) or bool(png_slices(path))


def _bids(files: Iterable[str]) -> dict[str, dict[str, str]]:
    """Group the anatomical scans, and what derivatives/ has for them, by the entities behind subject and session."""
    found: dict[str, dict[str, str]] = {}
    for path in files:
        match = BIDS.fullmatch(_stem(path))
        if match and path.startswith(DERIVED):
            pipeline = path.split("/")[1]
            put(found, match[2] if pipeline.startswith("sub-") else f"{DERIVED}{pipeline}/{match[2]}", match[1], path)
        elif match and "/anat/" in path:
            put(found, match[2], match[1], path)
    return found


def _brats_2015(files: Iterable[str]) -> dict[str, dict[str, str]]:
    """Group CASE/VSD.Brain.XX.O.MR_Flair.123/VSD.Brain.XX.O.MR_Flair.123.mha by the sequence."""
    found: dict[str, dict[str, str]] = {}
    for path in files:
        if match := BRATS_2015.fullmatch(_stem(path)):
            put(found, match[1], Path(path).parts[-3] if path.count("/") > 1 else "case", path)
    return found


def _flat(root: Path, files: list[str], channels: int | None, named: bool) -> Kinds | Listing:
    """Read one folder of files CASE_WORD, or of images alone."""
    stems = {path: _stem(path) for path in files}
    labels = [path for path in files if is_label(stems[path])]
    if labels and len(labels) < len(files):
        return Kinds(root, "one folder", by_prefix([path for path in files if path not in labels], labels, stems))
    ended: dict[str, dict[str, str]] = {}
    for path, stem in stems.items():
        cut = max(map(stem.rfind, SEPARATORS))
        ended.setdefault(stem[cut + 1 :], {})[stem[: max(cut, 0)]] = path
    kinds = Kinds(root, "one folder", ended)
    words = [word for word in ended if not word.isdecimal()]
    cases = {frozenset(found) for found in ended.values()}
    several = len(words) == len(ended) > 1 and len(cases) == 1 and frozenset([""]) not in cases
    if named or (several and channels == len(ended)):
        return kinds
    if several and channels is None:
        raise kinds.unclear("these words could be sequences, or parts of the names of cases ('{case}.nii.gz')")
    return list_pairs(root, None, channels)


def _nested(root: Path, files: list[str], channels: int | None) -> Kinds | Listing:
    """Read a folder for each case, a folder for each kind of file, or stacks of PNG slices."""
    tops = {path.split("/")[0] for path in files}
    labelled = {top for top in tops if is_label(top)}
    shallow = all(path.count("/") == 1 for path in files)
    if shallow and labelled and labelled != tops:
        return Kinds(root, "a folder for each kind of file", _by_folder(files, labelled))
    if files[0].lower().endswith(PNG) and shallow and not any(is_label(_stem(path)) for path in files):
        return list_pairs(root, None, channels)
    found: dict[str, dict[str, str]] = {}
    for path in files:
        case, stem = Path(path).parts[-2], _stem(path)
        put(found, replace_case(stem, case, "").strip(SEPARATORS) or "image", case, path)
    return Kinds(root, "a folder for each case", found)


def _by_folder(files: list[str], labelled: set[str]) -> dict[str, dict[str, str]]:
    """Group by folder if the files of a case have one name in all of them, otherwise by the words behind the name of the case."""
    found: dict[str, dict[str, str]] = {}
    for path in files:
        put(found, path.split("/")[0], _stem(path), path)
    same: Callable[[set[str]], set[str]] = lambda folders: set().union(*(found[folder] for folder in folders))  # noqa: E731
    if same(labelled) & same(found.keys() - labelled):
        return found
    stems = {path: _stem(path) for path in files}
    labels = [path for path in files if path.split("/")[0] in labelled]
    return by_prefix([path for path in files if path not in labels], labels, stems)


def _stem(path: str) -> str:
    return split_ending(path.rpartition("/")[2])[0]
