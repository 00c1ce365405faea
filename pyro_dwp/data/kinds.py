"""Files by what they are called: a word such as flair, t1 or mask says which sequence a file holds, or that it is the label."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyro_dwp.data.brats import year_of
from pyro_dwp.data.layouts import Listing
from pyro_dwp.data.patterns import SEPARATORS, add
from pyro_dwp.errors import DataError

LABELS = {
    *("seg", "dseg", "segmentation", "mask", "label", "lesion", "roi", "gt", "truth", "groundtruth", "consensus"),
    *("annotation", "contour", "manual", "ot"),
}
TOKEN = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")  # labelsTr: labels, Tr
BRAIN = "brain"  # a mask of the brain is no label
DERIVED = "derivatives/"
SHOWN = 12  # kinds that an error lists


def is_label(name: str) -> bool:
    """Tell by a name whether a file or a folder holds labels.

    Example:
        >>> [is_label(name) for name in ("lesion_mask", "labelsTr", "ManualSegmentation_1", "flair", "brain_mask")]
        [True, True, True, False, False]
    """
    return BRAIN not in name.lower() and any(
        word in LABELS or word.removesuffix("s") in LABELS for word in map(str.lower, TOKEN.findall(name))
    )


def tokens(name: str) -> list[str]:
    """Return the parts of a name between separators, in lower case."""
    return [token for token in re.split(f"[{re.escape(SEPARATORS)}/]", name.lower()) if token]


@dataclass(frozen=True)
class Kinds:
    """The files of a folder, by kind.

    Args:
        root: of the folder.
        layout: how they are laid out, in a phrase.
        files: kind → case → path relative to the folder.
    """

    root: Path
    layout: str
    files: Mapping[str, Mapping[str, str]]

    def listing(self, images: Sequence[str] | None, label: str | None) -> Listing:
        """Choose the kinds that are the sequences and the label.

        Args:
            images: names of kinds, or words that occur in them; None takes every kind that is no label.
            label: the same for the label; None takes the kind that is called like one.

        Raises:
            DataError: if the names leave a choice, or a case lacks a sequence.
        """
        called = [kind for kind in self.files if is_label(kind)]
        if label is None and len(called) > 1:
            raise self.unclear(f"{len(called)} kinds of file could be the label")
        truths = self.find(label) if label else dict(self.files[called[0]]) if called else {}
        taken = {*truths.values()}
        others = [
            kind for kind in self.files if not self._set_aside(kind) and taken.isdisjoint(self.files[kind].values())
        ]
        found = {name: self.find(name) for name in images} if images else {kind: self.files[kind] for kind in others}
        if not found:
            raise self.unclear("no kind of file is an image")
        cases = {case for files in found.values() for case in files}
        if lacking := {name: sorted(cases - files.keys()) for name, files in found.items() if cases - files.keys()}:
            name, missing = next(iter(lacking.items()))
            raise self.unclear(
                f"{len(missing)} of {len(cases)} cases, such as {missing[0]}, have no {name} (add it, or move them elsewhere)"
            )
        if truths and not cases & truths.keys():
            raise self.unclear(
                f"no label belongs to an image: {min(truths.values())}, {min(next(iter(found.values())).values())}"
            )
        year = year_of(path for case, path in truths.items() if case in cases)
        names = ", ".join(found)
        called_label = f"the label {label or called[0]}" if truths else "no labels"
        return Listing(
            f"{f'BraTS {year.name}: ' if year else ''}{self.layout}, with {names} and {called_label}",
            {case: [self.root / files[case] for files in found.values()] for case in cases},
            {case: self.root / truths[case] for case in cases & truths.keys()},
            tuple(found),
            stored=1 if len(found) > 1 else None,
            structures=year.structures if year else None,
            label_map=dict(year.label_map) if year and year.label_map else None,
        )

    def find(self, word: str) -> dict[str, str]:
        """Return case → path of the files whose kind has this name, or this word in it.

        Raises:
            DataError: if there is none, or a case has several.
        """
        exact = [kind for kind in self.files if kind.lower() == word.lower()]
        kinds = exact or [kind for kind in self.files if word.lower() in tokens(kind)]
        found: dict[str, str] = {}
        for kind in kinds:
            if twice := sorted(found.keys() & self.files[kind].keys()):
                raise self.unclear(f"{word!r} could be {found[twice[0]]} or {self.files[kind][twice[0]]}")
            found |= self.files[kind]
        if not found:
            raise self.unclear(f"no kind of file is called {word!r}")
        return found

    def unclear(self, problem: str) -> DataError:
        """Return an error that lists what was seen and names the settings that decide."""
        counts = [f"{kind or 'image'} ({len(files)})" for kind, files in sorted(self.files.items())]
        seen = ", ".join(counts[:SHOWN]) + (" …" if len(counts) > SHOWN else "")
        return DataError(
            f"The files of {self.root} are to be told apart by name, but {problem}; read as {self.layout}, it has files called "
            f"{seen}. Say which to use by words, such as --data.images flair,t1 --data.label mask, or by patterns, such as "
            "--data.images '{case}/{case}_flair.nii.gz'."
        )

    @staticmethod
    def _set_aside(kind: str) -> bool:
        """Tell whether a kind is used only where it is named: labels, masks of the brain, and what was derived."""
        return is_label(kind) or is_label(kind.lower().replace(BRAIN, "")) or kind.startswith(DERIVED)


def by_prefix(images: Iterable[str], labels: Iterable[str], stem_of: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Group files called CASE_WORD, in which each case is known by the name of its label without the words for labels.

    Args:
        images: paths.
        labels: paths of labels.
        stem_of: path → name of the file without folder and extension.

    Returns:
        Kind → case → path. A file that is called like a case has the kind "image".

    Example:
        >>> files = {f"x/{name}.nii": name for name in ("p_1_flair", "p_1_lesion_mask", "p_2_flair")}
        >>> by_prefix(["x/p_1_flair.nii", "x/p_2_flair.nii"], ["x/p_1_lesion_mask.nii"], files)["flair"]
        {'p_1': 'x/p_1_flair.nii', 'p_2': 'x/p_2_flair.nii'}
    """
    found: dict[str, dict[str, str]] = {}
    cases = set()
    for path in labels:
        case = case_of_label(stem_of[path])
        cases.add(case)
        put(found, stem_of[path][len(case) :].strip(SEPARATORS) or "label", case, path)
    rest = []
    for path in images:
        stem = stem_of[path]
        starts = [case for case in cases if stem == case or (stem.startswith(case) and stem[len(case)] in SEPARATORS)]
        if starts:
            case = max(starts, key=len)
            put(found, stem[len(case) :].strip(SEPARATORS) or "image", case, path)
        else:
            rest.append(path)
    ends = sorted((kind for kind in found if not is_label(kind)), key=len, reverse=True)
    for path in rest:  # cases without a label
        stem = stem_of[path]
        end = next((kind for kind in ends if any(stem.endswith(f"{mark}{kind}") for mark in SEPARATORS)), None)
        if end or "image" in found:
            put(found, end or "image", stem[: -len(end) - 1] if end else stem, path)
    return found


def case_of_label(stem: str) -> str:
    """Return the name of a label without the words at its end that say that it is one.

    Example:
        >>> case_of_label("patient_1_lesion_mask"), case_of_label("patient_1")
        ('patient_1', 'patient_1')
    """
    parts = re.split(f"([{re.escape(SEPARATORS)}])", stem)
    while len(parts) > 1 and is_label(parts[-1]):
        parts = parts[:-2]
    return "".join(parts)


def put(found: dict[str, dict[str, str]], kind: str, case: str, path: str) -> None:
    """Note a file.

    Raises:
        DataError: if the case already has one of this kind.
    """
    add(found.setdefault(kind, {}), case, path, f"The name {kind!r}")
