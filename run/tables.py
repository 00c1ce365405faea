#!/usr/bin/env python
"""Print the tables of an experiment, and write them as Markdown, CSV and LaTeX.

They are those of the papers (Dice and IoU by method and number of training scans) and what the papers leave out: paired
differences with intervals, distances in mm, probabilities, uncertainty, cost. An experiment that still runs can be tabulated;
a cell that is missing says why.

    python run/tables.py --experiment runs/lgg_methods
"""

import pyro_dwp.launch  # noqa: F401  # isort: skip  (first, so that Ctrl-C during the other imports ends quietly)

import sys
from pathlib import Path

from pyro_dwp.report.tables import experiment_tables, save_tables
from pyro_dwp.runs import run_script


def main(experiment: Path, reference: str | None = None, output: Path | None = None) -> None:
    """Print all tables as Markdown; write tables.md, and each table as NAME.csv and NAME.tex.

    Args:
        experiment: folder of run/experiment.py, which holds experiment.json.
        reference: method that the others are compared with; null takes that of the experiment.
        output: folder for the files; null takes tables/ in the experiment's folder.
    """
    print(experiment_tables(experiment, reference))
    folder = output or experiment / "tables"
    print(f"\n{len(save_tables(experiment, folder, reference))} files written: {folder}")


if __name__ == "__main__":
    sys.exit(run_script(main))
