#!/usr/bin/env python
"""Write the report of a run: one HTML file that opens from disk, with its scores, curves and a viewer of its cases.

python run/report.py runs/my_run
python run/report.py runs/my_run --cases worst,patient_07 --output my_run.html
"""

import pyro_dwp.launch  # noqa: F401  # isort: skip  (first, so that Ctrl-C during the other imports ends quietly)

import sys
from pathlib import Path
from typing import Annotated

from pyro_dwp.report import write_page
from pyro_dwp.runs import run_script
from pyro_dwp.settings import Positional
from pyro_dwp.train import configure_pyro


def main(
    run: Annotated[Path, Positional()],
    cases: tuple[str, ...] = ("worst", "median", "best", "doubtful"),
    output: Path | None = None,
) -> None:
    """Write report.html into the folder of a run.

    Args:
        run: folder of a run of run/svi_target.py, run/meta_tune.py or run/score.py.
        cases: cases whose pictures and volumes are shown: names, or worst, median and best by Dice, and doubtful, the first to
            look at.
        output: path of the file; null writes report.html into the folder.
    """
    configure_pyro(validation=False)
    print(f"Report: {write_page(run, cases, output)}")


if __name__ == "__main__":
    sys.exit(run_script(main))
