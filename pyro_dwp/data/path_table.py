"""A CSV file that lists the files of each case: columns case, label, one for each sequence, and any others that hold no paths."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from pyro_dwp.data.layouts import Listing
from pyro_dwp.data.paths import expand
from pyro_dwp.data.patterns import split_ending
from pyro_dwp.errors import DataError, suggest
from pyro_dwp.files import read_text

TABLE = ".csv"
NAME = "case"
LABEL = "label"


def list_table(path: Path, images: Sequence[str] | None = None, label: str | None = None) -> Listing:
    """List the cases of a table; paths are relative to its folder, or absolute.

    Args:
        path: of the table.
        images: columns of the sequences, in capitals or not; None takes every column of paths but the label's.
        label: column of the labels; None takes "label", if there is one. A cell may be empty: the case has no label.

    Raises:
        DataError: if the table cannot be read, lacks a column or a path, lists a case twice, or names a file that does not exist.
    """
    rows, columns = read_rows(path, "a table of paths")
    paths = [column for column in columns if any(split_ending(row[column].strip())[1] for row in rows)]
    known = {column.lower(): column for column in columns}
    truth = known.get(label.lower(), label) if label else LABEL if LABEL in columns else None
    chosen = [known.get(name.lower(), name) for name in images or [it for it in paths if it not in (NAME, truth)]]
    for column in [NAME, *chosen, *([truth] if truth else [])]:
        if column not in columns:
            raise DataError(f"{path} has no column {column!r}. {suggest(column, columns)}")
    if not chosen:
        raise DataError(
            f"{path} has no column with paths of images: it has {', '.join(columns)}. Add one for each sequence."
        )
    found: dict[str, list[Path]] = {}
    labels: dict[str, Path] = {}
    for number, row in enumerate(rows, start=2):
        case, where = row[NAME].strip(), f"line {number} of {path}"
        if not case or "/" in case or case in found:
            raise DataError(f"Each case has one line and a name without '/', but {where} has {case!r}. Correct it.")
        found[case] = [_file(path, row[column], f"{column!r} in {where}") for column in chosen]
        if truth and row[truth].strip():
            labels[case] = _file(path, row[truth], f"{truth!r} in {where}")
    if not found:
        raise DataError(f"{path} lists no case. Add a line for each.")
    stored = 1 if len(chosen) > 1 else None
    return Listing(f"a table of paths, with {', '.join(chosen)}", found, labels, tuple(chosen), stored)


def read_rows(path: Path, what: str) -> tuple[list[dict[str, str]], list[str]]:
    """Return the lines of a CSV file below its first, and the names of the columns, which the first line gives.

    Args:
        path: of the file.
        what: it should hold, with its article.

    Raises:
        DataError: if it cannot be read.
    """
    try:
        reader = csv.DictReader(io.StringIO(read_text(path).removeprefix("\ufeff"), newline=""), restval="")
        rows, columns = list(reader), list(reader.fieldnames or [])
        if broken := [column for column in columns if not column.isprintable()]:
            raise ValueError(f"the column {broken[0]!r} has control characters in its name")
    except (OSError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{path} cannot be read as {what} ({reason}). Check the path, or save it as CSV again."
        ) from error
    return [{column: row[column] for column in columns} for row in rows], columns


def _file(table: Path, cell: str, where: str) -> Path:
    if not cell.strip():
        raise DataError(
            f"Each case has a file for each sequence, but {where} is empty. Add the path, or remove the line."
        )
    path = table.parent / expand(cell.strip())
    if not path.exists():
        raise DataError(f"{where} names {path}, which does not exist. Correct the path.")
    return path
