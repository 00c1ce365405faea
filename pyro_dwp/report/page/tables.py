"""Tables of the page: rows of cells as people read them, with the numbers that they are sorted by."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from pyro_dwp.data import CaseSource
from pyro_dwp.errors import PyroDwpError
from pyro_dwp.metrics import structure_title
from pyro_dwp.report.page.folder import PARTS, RunFolder

NONE = "–"
TITLES = {
    "dice": "Dice",
    "predicted_dice": "Predicted Dice",
    "iou": "IoU",
    "hd95": "HD95 (mm)",
    "volume_ml": "Volume (ml)",
    "predicted_volume_ml": "Predicted volume (ml)",
    "volume_low_ml": "Interval from (ml)",
    "volume_high_ml": "Interval to (ml)",
    "volume_covered": "Volume in interval",
    "posterior_volume_low_ml": "Posterior from (ml)",
    "posterior_volume_high_ml": "Posterior to (ml)",
    "posterior_volume_covered": "Volume in posterior",
    "negative_log_likelihood": "NLL (nats/voxel)",
    "brier": "Brier",
    "calibration_error": "Calibration error",
    "calibration_error_boundary": "Calibration error at borders",
    "uncertainty_error_correlation": "Uncertainty–error correlation",
}
SETTINGS = (
    *("data", "train", "validation", "test", "patients", "folds", "split", "runs"),
    *("prior", "guide", "likelihood", "network"),
    *("preprocess", "patch", "augment", "schedule", "kl_weight", "warm_up", "estimator", "start", "source", "freeze"),
    *("samples", "score", "seed", "device", "precision"),
)


@dataclass(frozen=True)
class Cell:
    """One cell: its text, and the number to sort by, None where the text decides."""

    text: str
    number: float | None = None


@dataclass(frozen=True)
class Table:
    """A table whose first column names its rows.

    Args:
        title: what it shows.
        columns: headings.
        rows: cells of each row, the first one its name.
        foot: rows below, such as mean and standard deviation.
    """

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Cell, ...]]
    foot: list[tuple[Cell, ...]]


def cell(value: float | str | None, digits: int = 3) -> Cell:
    """Return a number with significant digits that suit its size, a text as it is, and a dash for nothing.

    Example:
        >>> [cell(value).text for value in (0.68147, 1340.0, 16.97, None)]
        ['0.681', '1340', '17.0', '–']
    """
    if value is None or isinstance(value, str):
        return Cell(value or NONE)
    size = 0 if value == 0 or not math.isfinite(value) else max(0, math.floor(math.log10(abs(value))) + 1)
    return Cell(f"{value:.{max(0, digits - size)}f}", float(value))


def score_tables(run: RunFolder) -> list[Table]:
    """Return a table of the scores by case, and one more for each structure where there are several."""
    columns = list(next(iter(run.scores.values()), {}))
    structures = sorted(run.structures(), key=len, reverse=True)  # "core_2" before "2"
    owner = {column: next((s for s in structures if column.endswith(f"_{s}")), "") for column in columns}
    found = []
    for structure in ["", *run.structures()]:
        known = {c.removesuffix(f"_{structure}" if structure else ""): c for c in columns if owner[c] == structure}
        ordered = {name: known[name] for name in [*TITLES, *known] if name in known}
        if ordered:
            found.append(_scores(run, structure, ordered))
    return found


def _scores(run: RunFolder, structure: str, columns: Mapping[str, str]) -> Table:
    rows = [(Cell(case), *(cell(row.get(c)) for c in columns.values())) for case, row in run.scores.items()]
    means = {"mean": run.table.get("mean") or {}, "standard deviation": run.table.get("std") or {}}
    foot = [(Cell(name), *(cell(row.get(c)) for c in columns.values())) for name, row in means.items() if row]
    titles = (TITLES.get(name, name) for name in columns)
    return Table(structure_title(structure), ("Case", *titles), rows, foot)


def case_table(run: RunFolder, source: CaseSource | None, patience: float = 10.0) -> Table:
    """Return the cases with their part of the split, shape and spacing; the latter are dashes where a case cannot be read.

    Args:
        run: whose split lists the cases.
        source: of the cases; None where it is not known.
        patience: seconds after which no more scans are opened, so that a page with many cases is not waited for.
    """
    end = monotonic() + patience
    listed = [(part, case) for part in PARTS for case in run.split.get(part) or ()]
    if not listed:
        listed = [(run.part, case) for case in run.scores]
    rows = [(Cell(case), Cell(part), *_grid(source if monotonic() < end else None, case)) for part, case in listed]
    return Table("", ("Case", "Part", "Channels", "Voxels", "Spacing (mm)"), rows, [])


def _grid(source: CaseSource | None, case: str) -> tuple[Cell, ...]:
    try:
        if source is None:
            return (Cell(NONE),) * 3
        scan = source.load(case)
    except PyroDwpError:
        return (Cell(NONE),) * 3
    size, spacing = " × ".join(map(str, scan.shape)), " × ".join(f"{edge:.3g}" for edge in scan.spacing)
    return cell(len(scan.image), 0), Cell(size, math.prod(scan.shape)), Cell(spacing, math.prod(scan.spacing))


def settings(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the settings that matter, name and value in words; nothing that is null or empty.

    Example:
        >>> settings({"prior": {"class": "pyro_dwp.DeepWeight", "path": None}, "freeze": [], "train": 5})
        [('train', '5'), ('prior', 'DeepWeight')]
    """
    found = {name: config.get(name) for name in SETTINGS}
    return [(name, _words(value)) for name, value in found.items() if value not in (None, [], {}, False)]


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        kind = str(value.get("class", "")).rpartition(".")[2]
        parts = [f"{key} {_words(item)}" for key, item in value.items() if key != "class" and item is not None]
        return f"{kind}: {', '.join(parts)}" if kind and parts else kind or ", ".join(parts)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " × ".join(map(str, value)) if all(isinstance(v, int) for v in value) else ", ".join(map(_words, value))
    return str(value)


def headline(run: RunFolder) -> list[tuple[str, str]]:
    """Return the few numbers that stand at the top: name and value."""
    mean, std = run.table.get("mean") or {}, run.table.get("std") or {}
    found: list[tuple[str, str]] = []
    if mean.get("dice") is not None:
        spread = "" if std.get("dice") is None else f" ± {std['dice']:.3f}"
        found.append((f"mean Dice of {len(run.scores)} {run.part} scans", f"{mean['dice']:.3f}{spread}"))
    if mean.get("hd95") is not None:
        found.append(("mean 95 % Hausdorff distance", f"{cell(mean['hd95']).text} mm"))
    if run.split.get("train"):
        found.append(("training scans", str(len(run.split["train"]))))
    if seconds := run.metrics.get("seconds"):
        found.append(("computing time", duration(seconds)))
    return found


def duration(seconds: float) -> str:
    """Return a time in words.

    Example:
        >>> [duration(value) for value in (9.4, 150, 9000)]
        ['9 s', '2.5 min', '2.5 h']
    """
    scales: Iterable[tuple[float, str]] = ((3600, "h"), (60, "min"))
    return next((f"{seconds / size:.1f} {unit}" for size, unit in scales if seconds >= size), f"{seconds:.0f} s")
