"""What was measured, with machine and command, as JSON and as tables in a page."""

import json
import platform
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from pyro_dwp.errors import DataError
from pyro_dwp.files import write_json, write_text
from pyro_dwp.report.markup import NONE, Cell, Table
from pyro_dwp.timing.measure import Measured
from pyro_dwp.timing.profile import OTHER, REST

Lines = dict[tuple[str, ...], tuple[Cell, ...]]
LEADING = ("network forward", "network backward", "sampling", "prior", "likelihood", "optimiser", OTHER, REST)
TIME = (
    "Median time of a round, in seconds; median and quartiles over the rounds of the ratio to the row that is named, in the same "
    "round; the most memory of tensors, in MiB, and its ratio; the operations of convolutions and products of matrices a second."
)
SPENT = (
    "In percent of the time under PyTorch's profiler, which makes small operations look dearer. The backward pass of a part "
    "counts with it. The last part is time in which no tensor was computed."
)
GROWTH = "Seconds as the size grows, and the line through them by least squares."


@dataclass(frozen=True)
class Timings:
    """Rows measured in one process.

    Args:
        rows: what was measured.
        machine: what it ran on, see `describe_machine`.
        command: that measures it again.
    """

    rows: tuple[Measured, ...]
    machine: dict[str, str | int]
    command: str

    def save(self, path: Path) -> None:
        """Write all of it as JSON."""
        rows = [row.to_dict() for row in self.rows]
        write_json(path, {"command": self.command, "machine": self.machine, "rows": rows})

    def to_markdown(self) -> str:
        """Return machine, command and tables."""
        said = ", ".join(f"{name} {value}" for name, value in self.machine.items())
        tables = [times(self.rows), parts(self.rows), *([growth(self.rows)] if lines(self.rows) else [])]
        return "\n\n".join([f"`{self.command}` on {said}:", *(table.to_markdown() for table in tables)])

    def insert(self, page: Path, name: str) -> None:
        """Replace what stands in a page between the lines `<!-- NAME -->` and `<!-- end of NAME -->`.

        Args:
            page: Markdown.
            name: of the place.

        Raises:
            DataError: if the page has no such place.
        """
        begin, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
        text = page.read_text()
        if begin not in text or end not in text:
            raise DataError(f"{page} has no place for these tables. Add the lines {begin.strip()} and {end.strip()}.")
        before, after = text.split(begin)[0], text.split(end)[1]
        write_text(page, before + begin + self.to_markdown() + end + after)


def read_timings(path: Path) -> Timings:
    """Read what `Timings.save` wrote.

    Raises:
        DataError: if the file does not hold timings.
    """
    names = {field.name for field in fields(Measured)}
    try:
        found = json.loads(path.read_text())
        rows = [{key: _tuple(value) for key, value in row.items() if key in names} for row in found["rows"]]
        return Timings(tuple(Measured(**row) for row in rows), dict(found["machine"]), str(found["command"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} does not hold timings ({error}). Write them with run/time_steps.py --json.") from error


def describe_machine(device: torch.device) -> dict[str, str | int]:
    """Return the processor or GPU, what it does with bfloat16, the number of threads and the version of torch."""
    if device.type == "cuda":
        return {"device": torch.cuda.get_device_name(device), "torch": torch.__version__}
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", info.read_text()) if info.is_file() else None
    name = (found[1] if found else platform.processor()) or platform.machine()
    return {
        "device": name,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def times(rows: Sequence[Measured]) -> Table:
    """Return seconds, ratio and memory, a line for each row and precision."""
    cells: Lines = {(row.name, row.precision): _time_cells(row) for row in rows}
    columns = ("seconds", "ratio", "to", "MiB", "memory ratio", "GFLOP/s")
    return Table("Time and memory", TIME, ("row", "precision"), columns, cells)


def parts(rows: Sequence[Measured]) -> Table:
    """Return where the time goes, a line for each row and precision."""
    found = {name for row in rows for name in row.parts}
    columns = tuple(name for name in (*LEADING, *sorted(found - {*LEADING})) if name in found)
    cells: Lines = {(row.name, row.precision): tuple(_percent(row.parts.get(name)) for name in columns) for row in rows}
    return Table("Where the time goes", SPENT, ("row", "precision"), columns, cells)


def growth(rows: Sequence[Measured]) -> Table:
    """Return how the cost grows, a line for each series and precision."""
    cells: Lines = {}
    for key, (sizes, seconds, fixed, each) in lines(rows).items():
        text = ", ".join(f"{size:g}: {time:.3g}" for size, time in zip(sizes, seconds, strict=True))
        line = f"{fixed:.3g} s + {each:.3g} s each"
        cells[key] = Cell((), text), Cell((fixed, each), line)
    return Table("How the cost grows", GROWTH, ("with", "precision"), ("size: seconds", "line"), cells)


def lines(rows: Sequence[Measured]) -> dict[tuple[str, str], tuple[list[float], list[float], float, float]]:
    """Return (series, precision) → sizes, median seconds, and intercept and slope of the line through them."""
    series: dict[tuple[str, str], dict[float, float]] = {}
    for row in rows:
        if row.series is not None and row.size is not None:
            series.setdefault((row.series, row.precision), {})[row.size] = statistics.median(row.seconds)
    found = {}
    for key, points in series.items():
        if len(points) > 1:
            slope, intercept = statistics.linear_regression([*points], [*points.values()])
            found[key] = [*points], [*points.values()], intercept, slope
    return found


def _time_cells(row: Measured) -> tuple[Cell, ...]:
    missing = Cell((None,), NONE)
    median = statistics.median(row.seconds)
    seconds, memory = Cell((median,), f"{median:.3g}"), Cell((row.peak_mib,), f"{row.peak_mib:.0f}")
    speed = Cell((row.gflop / median,), f"{row.gflop / median:.3g}") if row.gflop and median else missing
    if not row.ratios:
        return seconds, missing, Cell((), row.against or NONE), memory, missing, speed
    low, ratio, high = quartiles(row.ratios)
    compared = Cell((ratio, low, high), f"{ratio:.2f} ({low:.2f} to {high:.2f})")
    ratio_of_memory = missing if row.memory_ratio is None else Cell((row.memory_ratio,), f"{row.memory_ratio:.2f}")
    return seconds, compared, Cell((), row.against or NONE), memory, ratio_of_memory, speed


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return lower quartile, median and upper quartile.

    Example:
        >>> quartiles([1.0, 2.0, 3.0, 4.0, 5.0]), quartiles([7.0])
        ((2.0, 3.0, 4.0), (7.0, 7.0, 7.0))
    """
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def _percent(share: float | None) -> Cell:
    return Cell((share,), NONE if share is None else f"{100 * share:.1f}")


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
