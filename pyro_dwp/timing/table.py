"""The rows of a table of timings, as settings, and each row in each precision."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from typing import Annotated, Literal, cast

from annotated_types import Ge, Le
from pydantic import PositiveFloat, PositiveInt

from pyro_dwp.checks import checked_dataclass
from pyro_dwp.errors import ConfigError, suggest
from pyro_dwp.nn import Precision
from pyro_dwp.timing.workload import Bench, Workload

Edge = Annotated[int, Ge(1), Le(1024)]


@checked_dataclass
class Row:
    """What is measured, and what with.

    Args:
        work: makes what is timed.
        against: row that this one is compared with, in the same precision if it is measured in it; None compares with none.
        times: the other row's seconds count so many times, as 10 predictions for a prediction with 10 samples.
        precision: that the work computes in; None measures each that is asked for, default is what scripts choose.
        grid: voxels of a scan along each axis; None takes those that are asked for.
        scans: in a minibatch; None takes as many as are asked for.
        series: rows of one series show how the cost grows.
        size: place of the row in its series, such as a number of voxels.
    """

    work: Callable[[Bench], Workload]
    against: str | None = None
    times: PositiveInt = 1
    precision: Literal["float32", "bfloat16", "default"] | None = None
    grid: tuple[Edge, Edge, Edge] | None = None
    scans: PositiveInt | None = None
    series: str | None = None
    size: PositiveFloat | None = None


@dataclass(frozen=True)
class Entry:
    """A row in one precision.

    Args:
        name: of the row.
        row: its settings.
        bench: what it is measured on.
    """

    name: str
    row: Row
    bench: Bench

    @property
    def precision(self) -> str:
        """That the work computes in; what scripts choose is spelt out."""
        return str(self.bench.machine.describe()["precision"])

    def make(self) -> Workload:
        """Build the work."""
        return self.row.work(self.bench)


def entries(
    table: Mapping[str, Row], bench: Bench, precisions: Sequence[str], names: Sequence[str] | None = None
) -> list[Entry]:
    """Return the rows that are asked for and those that they are compared with, each in every precision that it has.

    Args:
        table: name → row.
        bench: grid and scans where a row has none of its own.
        precisions: of the rows that have none of their own.
        names: of rows, or patterns such as "plain*"; None takes all.

    Raises:
        ConfigError: if there is no row of a name, or one that another is compared with.
    """
    chosen = [name for name in table if names is None or any(fnmatch(name, pattern) for pattern in names)]
    if lost := [pattern for pattern in names or () if not any(fnmatch(name, pattern) for name in table)]:
        raise ConfigError(f"--rows names rows of the table, but there is no {lost[0]!r}. {suggest(lost[0], table)}")
    for name in chosen:  # grows in the loop, so that what a reference is compared with is found, too
        other = table[name].against
        if other is not None and other not in table:
            raise ConfigError(
                f"table.{name}.against: a row is compared with another of the table, but there is no {other!r}. "
                f"{suggest(other, table)}"
            )
        if other is not None and other not in chosen:
            chosen.append(other)
    return [entry for name in table if name in chosen for entry in _each(name, table[name], bench, precisions)]


def _each(name: str, row: Row, bench: Bench, precisions: Sequence[str]) -> Iterator[Entry]:
    for precision in [row.precision] if row.precision else precisions:
        machine = replace(bench.machine, precision=None if precision == "default" else cast(Precision, precision))
        yield Entry(
            name, row, replace(bench, machine=machine, grid=row.grid or bench.grid, scans=row.scans or bench.scans)
        )
