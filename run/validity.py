#!/usr/bin/env python
"""Tell whether the uncertainty of finished runs keeps its promises on the scans that they held out.

Does predicted Dice order the scans as their true Dice does, and do the intervals of volumes cover? Results of several runs are
pooled: correlations are within each run, and intervals over different scans.

    python run/validity.py --runs '[runs/split_0, runs/split_1, runs/split_2]'
"""

import pyro_dwp.launch  # noqa: F401  # isort: skip  (first, so that Ctrl-C during the other imports ends quietly)

import sys
from pathlib import Path
from typing import Annotated

from annotated_types import MinLen

from pyro_dwp.files import write_json
from pyro_dwp.predict import describe_validity, pooled_validity
from pyro_dwp.runs import run_script


def main(runs: Annotated[list[Path], MinLen(1)], output: Path | None = None, seed: int = 0) -> None:
    """Print, over all runs, the rank correlation of predicted and true Dice and the coverage of volumes.

    Args:
        runs: folders of runs of run/svi_target.py, run/meta_tune.py or run/score.py.
        output: JSON file for the numbers; null only prints them.
        seed: seed of the bootstrap.
    """
    found = pooled_validity(runs, seed)
    print(describe_validity(found))
    if output is not None:
        print(f"{len(runs)} run(s) pooled: {write_json(output, found)}")


if __name__ == "__main__":
    sys.exit(run_script(main))
