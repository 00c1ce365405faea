#!/usr/bin/env python
"""Measure what a step of inference costs beside one of the plain network, and what prediction, validation and preparation cost.

python run/time_steps.py                                  # every row of configs/time_steps.yaml, in both precisions
python run/time_steps.py --rows 'deep weight*,gaussian*' --precisions float32 --grid [32,40,32]
python run/time_steps.py --config time_growth             # how the cost grows with voxels, kernels, draws, samples and scans
python run/time_steps.py --config time_others             # other implementations: pip install -e ".[benchmark]"

Close other programs first: times are those of this process alone, but its caches are shared.
"""

import pyro_dwp.launch  # noqa: F401  # isort: skip  (first, so that Ctrl-C during the other imports ends quietly)

import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Le
from pydantic import BeforeValidator, PositiveInt

from pyro_dwp.checks import words
from pyro_dwp.runs import run_script
from pyro_dwp.settings import Call, Flat
from pyro_dwp.timing import Bench, Row, Timings, entries, measure
from pyro_dwp.timing.table import Edge
from pyro_dwp.timing.timings import describe_machine
from pyro_dwp.train import Machine, configure_pyro

Names = Annotated[tuple[str, ...], BeforeValidator(words)]


def main(
    table: dict[str, Row],
    machine: Annotated[Machine, Flat()],
    call: Call,
    rows: Names | None = None,
    precisions: Annotated[tuple[Literal["float32", "bfloat16"], ...], BeforeValidator(words)] = ("float32", "bfloat16"),
    grid: tuple[Edge, Edge, Edge] = (64, 64, 24),
    scans: PositiveInt = 2,
    repetitions: Annotated[int, Ge(1), Le(10_000)] = 7,
    json: Path | None = None,
    page: Path | None = None,
) -> None:
    """Time all rows in one process, round after round, and print time, ratio, memory and parts as tables.

    Args:
        table: name of a row → what is measured, and what it is compared with.
        rows: names of the rows to measure, or patterns such as "deep*", between commas; null measures all.
        precisions: that each row is measured in, unless it has one of its own.
        grid: voxels of a scan along each axis.
        scans: in a minibatch.
        repetitions: rounds, of which medians are reported.
        json: file for all numbers, which pyro_dwp.timing.read_timings reads.
        page: Markdown file that gets the tables, between the lines <!-- NAME --> and <!-- end of NAME -->, where NAME is that of
            the config.
    """
    configure_pyro(validation=False)
    bench = Bench(machine, machine.use(), grid, scans)
    measured = measure(entries(table, bench, precisions, rows), repetitions)
    command = shlex.join(["python", f"run/{call.script.name}", *call.arguments])
    found = Timings(tuple(measured), describe_machine(bench.device), command)
    if json is not None:
        found.save(json)
    if page is not None:
        found.insert(page, call.label)
    print(found.to_markdown())


if __name__ == "__main__":
    sys.exit(run_script(main, "time_steps"))
