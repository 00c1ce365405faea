"""Which scans are of one patient, so that none is learned from and tested on."""

import re
from collections.abc import Sequence
from pathlib import Path

from pyro_dwp.data.path_table import TABLE, read_rows
from pyro_dwp.data.paths import expand
from pyro_dwp.errors import ConfigError, DataError

COLUMNS = ("case", "patient")


def patients_of(names: Sequence[str], rule: str | None) -> dict[str, str]:
    r"""Return case → patient.

    Args:
        names: of the cases.
        rule: a regular expression for the whole name of a case, whose group `patient`, or only group, is the patient; or a CSV
            file (ending in .csv) with columns `case` and `patient`; None where each case is a patient of its own.

    Raises:
        ConfigError: if the expression is not one, or has no such group.
        DataError: naming the first case that the expression does not match or the file does not list, or if the file cannot be
            read as such a table.

    Example:
        >>> patients_of(["anna_T1", "anna_T2", "ben_T1"], r"(.+)_T\d+")
        {'anna_T1': 'anna', 'anna_T2': 'anna', 'ben_T1': 'ben'}
    """
    if rule is None:
        return {name: name for name in names}
    if rule.endswith(TABLE):
        return _listed(names, expand(rule))
    return _matched(names, patient_pattern(rule))


def patient_pattern(rule: str) -> tuple[re.Pattern[str], int | str]:
    """Return a compiled regular expression and its group that is the patient.

    Raises:
        ConfigError: if it is not a regular expression, or has neither a group `patient` nor exactly one group.
    """
    example = "Write it such as '(.+)_T\\d+', or name a .csv file with columns case and patient."
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise ConfigError(f"patients is {rule!r}, which is no regular expression ({error}). {example}") from error
    if "patient" not in pattern.groupindex and pattern.groups != 1:
        raise ConfigError(
            f"patients is a regular expression with one group, or a group named patient, but {rule!r} has {pattern.groups} "
            f"groups. {example}"
        )
    return pattern, "patient" if "patient" in pattern.groupindex else 1


def _matched(names: Sequence[str], rule: tuple[re.Pattern[str], int | str]) -> dict[str, str]:
    pattern, group = rule
    found = {name: match[group] for name in names if (match := pattern.fullmatch(name)) and match[group]}
    for name in names:
        if name not in found:
            raise DataError(
                f"patients={pattern.pattern} finds the patient in the whole name of each case, but not in {name}. Extend the "
                "expression, or rename the case."
            )
    return found


def _listed(names: Sequence[str], path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    rows, columns = read_rows(path, "a table of patients")
    if not {*COLUMNS} <= {*columns}:
        raise DataError(
            f"A table of patients has the columns case and patient, but {path} has {', '.join(columns) or 'none'}. Name them in "
            "its first line."
        )
    for row in rows:
        case, patient = (row[column].strip() for column in COLUMNS)
        if not patient or found.get(case, patient) != patient:
            raise DataError(f"{path} lists one patient for each case, but not for {case!r}. Correct the file.")
        found[case] = patient
    for name in names:
        if name not in found:
            raise DataError(f"{path} lists the patient of each case, but has no line for {name}. Add it.")
    return {name: found[name] for name in names}
