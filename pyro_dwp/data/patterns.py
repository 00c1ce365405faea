"""Patterns of file names with the field {case}, such as "{case}/{case}_flair.nii.gz": from a pattern to files, and back.

`*` stands for any characters but "/", `**` for any folders, {case} for the name of the case, the same wherever it occurs. The
extension may be left out.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile

from pyro_dwp.data.paths import PNG, VOLUMES
from pyro_dwp.errors import DataError

CASE = "{case}"
ENDINGS = (*VOLUMES, PNG)
SEPARATORS = "_-. "
SPECIAL = {CASE: "(?P<case>[^/]+?)", "**/": "(?:.*/)?", "*": "[^/]*"}


def split_ending(path: str) -> tuple[str, str]:
    """Return a path without the extension of a scan, and the extension."""
    ending = next((ending for ending in ENDINGS if path.lower().endswith(ending)), "")
    return path[: len(path) - len(ending)], path[len(path) - len(ending) :]


def matches(pattern: str, files: Iterable[str]) -> dict[str, str]:
    """Return case → path of the files that a pattern describes.

    Args:
        pattern: with {case}.
        files: paths relative to the folder, with "/".

    Raises:
        DataError: if two files belong to one case.

    Example:
        >>> matches("*/{case}_seg", ["HGG/a/x.nii", "HGG/a_seg.nii.gz", "LGG/b_c_seg.mha"])
        {'a': 'HGG/a_seg.nii.gz', 'b_c': 'LGG/b_c_seg.mha'}
    """
    parts = re.split(r"(\{case\}|\*\*/|\*)", pattern)
    text = "".join(SPECIAL.get(part, re.escape(part)) for part in parts).split(SPECIAL[CASE])
    ending = "" if split_ending(pattern)[1] else f"(?:{'|'.join(map(re.escape, ENDINGS))})"
    expression = re.compile(SPECIAL[CASE].join(text[:2]) + "".join(f"(?P=case){rest}" for rest in text[2:]) + ending)
    found: dict[str, str] = {}
    for path in files:
        if match := expression.fullmatch(path):
            add(found, match["case"], path, f"The pattern {pattern!r}")
    return found


def add(found: dict[str, str], case: str, path: str, what: str) -> None:
    """Note the file of a case.

    Raises:
        DataError: if it already has another.
    """
    if case in found:
        raise DataError(
            f"{what} names one file for each case, but two for the case {case}: {found[case]} and {path}. Name the files by "
            "patterns with {case}, such as 'images={case}/{case}_flair.nii.gz', or move one of them."
        )
    found[case] = path


def replace_case(text: str, case: str, by: str) -> str:
    """Return a text in which the name of a case, where it is not part of a longer word, is replaced.

    Example:
        >>> replace_case("scans/a_flair", "a", "{case}")
        'scans/{case}_flair'
    """
    return re.sub(rf"(?<![A-Za-z0-9]){re.escape(case)}(?![A-Za-z0-9])", lambda _: by, text)


def pattern_of(files: Mapping[str, str], others: Iterable[str]) -> str | None:
    """Return a pattern that describes these files and none of the others; None if there is none of this form.

    Args:
        files: case → path.
        others: all paths of the folder.

    Example:
        >>> pattern_of({"a": "HGG/a/a_t1.nii", "b": "LGG/b/b_t1.nii"}, ["HGG/a/a_t1.nii", "LGG/b/b_t1.nii", "HGG/a/a_t2.nii"])
        '*/{case}/{case}_t1.nii'
    """
    replaced = [replace_case(path, case, CASE).split("/") for case, path in files.items()]
    if len({len(parts) for parts in replaced}) != 1:
        return None
    *folders, last = zip(*replaced, strict=True)
    stems, endings = zip(*map(split_ending, last), strict=True)
    pattern = "/".join([*map(_general, folders), _general(stems) + (endings[0] if len({*endings}) == 1 else "")])
    try:
        return pattern if CASE in pattern and matches(pattern, others) == dict(files) else None
    except DataError:
        return None


def _general(words: tuple[str, ...]) -> str:
    """Return what words have in common, with "*" for the rest: the text before and behind, up to a separator."""
    if len({*words}) == 1:
        return words[0]
    start = _shared(words)
    start = start[: max(map(start.rfind, SEPARATORS)) + 1]
    ends = _shared([word[len(start) :][::-1] for word in words])[::-1]
    cut = [at for at in map(ends.find, SEPARATORS) if at >= 0]
    return f"{start}*{ends[min(cut) :] if cut else ''}"


def _shared(words: Sequence[str]) -> str:
    """Return the characters that all words begin with."""
    columns = takewhile(lambda column: len({*column}) == 1, zip(*words, strict=False))
    return "".join(column[0] for column in columns)
