"""The tables of an experiment: those of the papers, and what the papers leave out.

References:
    Kuzina, Egorov, Burnaev 2019, Front. Neurosci. 13:844, tables 3, 4 and 6: Dice and IoU by number of training scans and method.
    Han et al. 2018: Dice on the target after tuning; here on the source, too, since nobody had measured what was forgotten.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pyro_dwp.files import write_text
from pyro_dwp.metrics import EACH
from pyro_dwp.report.markup import NONE, Cell, Table
from pyro_dwp.report.paired import paired_difference
from pyro_dwp.report.results import Experiment, read_experiment


@dataclass(frozen=True)
class Score:
    """How a score is printed, and what is better."""

    key: str
    title: str
    decimals: int
    best: Literal["highest", "lowest"] | None = None


DICE, IOU = Score("dice", "Dice", 3, "highest"), Score("iou", "IoU", 3, "highest")
HD95, NATS = Score("hd95", "HD95, mm", 1, "lowest"), Score("negative_log_likelihood", "nats per voxel", 3, "lowest")
COMPARED = (DICE, HD95, NATS)
MORE = (
    HD95,
    NATS,
    Score("calibration_error", "calibration error", 4, "lowest"),
    Score("calibration_error_boundary", "the same near the boundary", 3, "lowest"),
    Score("uncertainty_error_correlation", "correlation of entropy and error", 3, "highest"),
    Score("volume_covered", "volumes in their interval", 2),
    Score("posterior_volume_covered", "in that of the posterior", 2),
    Score("seconds", "seconds", 0),
    Score("peak_memory_mib", "peak MiB", 0),
)
TITLES = {score.key: score.title for score in (DICE, IOU, *MORE)}
SPREAD = "Mean (standard deviation over splits) of the mean over test scans; seeds are averaged within a split."
PAIRED = (
    "Paired by scan and split, with the 95 % interval over scans and trainings (Student's t, splits − 1 degrees of freedom); "
    "one split gives no interval."
)
BEWARE = (
    "HD95 is over the scans on which both truth and prediction have the class, so finding nothing is not punished. Near the "
    "boundary: within 5 mm. The interval of a volume is calibrated on n validation scans, if these are not scored, and "
    "promises 90 %, or n/(n + 1) with n < 9; otherwise it is the posterior's. That is the range of the samples if there are "
    "S < 19, and a perfect posterior then covers (S − 1)/(S + 1) of the volumes; a single network has none. Seconds are those "
    "of the training, of an ensemble those of its prediction."
)


def tables_of(experiment: Experiment) -> dict[str, Table]:
    """Return name → table: dice, iou, more, and what there is of structures, differences of methods and others (other cases)."""
    tables = {"dice": by_size(experiment, DICE), "iou": by_size(experiment, IOU)}
    if experiment.structures:
        each = [replace(DICE, key=f"{EACH}{name}", title=name) for name in experiment.structures]
        tables["structures"] = by_method(experiment, each, "Dice of each structure", SPREAD)
    if len(experiment.methods) > 1:
        tables["differences"] = differences(experiment)
    tables["more"] = by_method(experiment, MORE, "What else was measured", f"{SPREAD} {BEWARE}")
    if experiment.others:
        found = [replace(DICE, key=f"{name}/dice", title=f"Dice, {name}") for name in experiment.others]
        title = "Dice on the target and, after tuning, on other cases"
        tables["others"] = by_method(experiment, [replace(DICE, title="Dice, target"), *found], title, SPREAD)
    return tables


def by_size(experiment: Experiment, score: Score) -> Table:
    """Return one score, a row for each method, a column for each number of training scans; the best of a column is bold."""
    methods, sizes = experiment.methods, experiment.sizes
    columns = [mark_best([_spread(experiment, method, size, score) for method in methods], score) for size in sizes]
    rows: dict[tuple[str, ...], tuple[Cell, ...]] = {
        (method,): tuple(column[number] for column in columns) for number, method in enumerate(methods)
    }
    return Table(score.title, SPREAD, ("method",), tuple(f"{size} scan{'s' * (size != 1)}" for size in sizes), rows)


def by_method(experiment: Experiment, scores: Sequence[Score], title: str, caption: str) -> Table:
    """Return several scores, a row for each number of training scans and method; the best for each number is bold."""
    rows: dict[tuple[str, ...], tuple[Cell, ...]] = {}
    for size in experiment.sizes:
        cells = [[_spread(experiment, method, size, score) for method in experiment.methods] for score in scores]
        columns = [mark_best(column, score) for column, score in zip(cells, scores, strict=True)]
        rows |= {
            (str(size), method): row for method, row in zip(experiment.methods, zip(*columns, strict=True), strict=True)
        }
    return Table(title, caption, ("scans", "method"), tuple(score.title for score in scores), rows)


def differences(experiment: Experiment, scores: Sequence[Score] = COMPARED) -> Table:
    """Return differences to the reference with their 95 % intervals, a row for each number of training scans and method."""
    others = [method for method in experiment.methods if method != experiment.reference]
    pairs = [(size, method) for size in experiment.sizes for method in others]
    rows: dict[tuple[str, ...], tuple[Cell, ...]] = {
        (str(size), method): tuple(_difference(experiment, method, size, score) for score in scores)
        for size, method in pairs
    }
    title = f"Differences to {experiment.reference}"
    columns = tuple(score.title for score in scores)
    return Table(title, PAIRED, ("scans", "method"), columns, rows, ("difference", "low", "high"))


def mark_best(cells: Sequence[Cell], score: Score) -> tuple[Cell, ...]:
    """Return the cells of one comparison, the best in bold: of those that lack nothing, all that print as the best does."""
    means = [cell.values[0] for cell in cells if not cell.note and cell.values[0] is not None]
    if score.best is None or len(means) < 2:
        return tuple(cells)
    best = f"{(max if score.best == 'highest' else min)(means):.{score.decimals}f}"
    return tuple(replace(cell, bold=not cell.note and f"{cell.values[0]:.{score.decimals}f}" == best) for cell in cells)


def _spread(experiment: Experiment, method: str, size: int, score: Score) -> Cell:
    found = experiment.spread(method, size, score.key)
    if found.mean is None:
        return Cell((None, None), NONE, note=found.missing)
    deviation = "" if found.std is None else f" ({found.std:.{score.decimals}f})"
    return Cell((found.mean, found.std), f"{found.mean:.{score.decimals}f}{deviation}", note=found.missing)


def _difference(experiment: Experiment, method: str, size: int, score: Score) -> Cell:
    pair = method, experiment.reference
    missing = {name: experiment.spread(name, size, score.key).missing for name in pair}
    note = "; ".join(f"{name}: {reason}" for name, reason in missing.items() if reason)
    found = paired_difference(*(experiment.cases(name, size, score.key) for name in pair))
    if found is None:
        return Cell((None, None, None), NONE, note=note)
    low, high = found.interval or (None, None)
    spread = "" if low is None or high is None else f" [{_signed(low, score)}, {_signed(high, score)}]"
    return Cell((found.mean, low, high), f"{_signed(found.mean, score)}{spread}", note=note)


def _signed(value: float, score: Score) -> str:
    return f"{value:+.{score.decimals}f}".replace("-", "−")


def experiment_tables(folder: Path, reference: str | None = None) -> str:
    """Return all tables of an experiment's folder as Markdown; a cell that is missing says why.

    Args:
        folder: that holds experiment.json.
        reference: method that the others are compared with; None takes that of the experiment.

    Raises:
        DataError: if the file is missing or damaged, or the reference is not one of the methods.
    """
    return _page(tables_of(read_experiment(folder, reference)))


def _page(tables: Mapping[str, Table]) -> str:
    return "\n\n".join(table.to_markdown() for table in tables.values())


def save_tables(folder: Path, output: Path, reference: str | None = None) -> list[Path]:
    """Write the tables of an experiment: tables.md with all of them, NAME.csv and NAME.tex of each.

    Args:
        folder: that holds experiment.json.
        output: folder to write to, made if it is missing.
        reference: method that the others are compared with; None takes that of the experiment.

    Returns:
        The files.

    Raises:
        DataError: if the experiment cannot be read or a file cannot be written.
    """
    tables = tables_of(read_experiment(folder, reference))
    paths = [write_text(output / "tables.md", _page(tables) + "\n")]
    for name, table in tables.items():
        paths += [
            write_text(output / f"{name}.csv", table.to_csv()),
            write_text(output / f"{name}.tex", table.to_latex()),
        ]
    return paths
