#!/usr/bin/env python
"""Compare methods: methods × numbers of training scans × splits × seeds become jobs, then tables.

A job is a run of another script, such as svi_target.py, in a folder that is named by a hash of its settings. Whatever is trained
for several of them, such as source networks and priors, is trained once. Stopped at any moment, even by force, the same command
goes on: what has finished is kept, what was begun is resumed. If a job fails the others go on.

    python run/experiment.py --config lgg_benchmark --dry_run
    python run/experiment.py --config lgg_benchmark --where.cores 2
"""

import pyro_dwp.launch  # noqa: F401  # isort: skip  (first, so that Ctrl-C during the other imports ends quietly)

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import PositiveFloat

from pyro_dwp.errors import TrainingError
from pyro_dwp.experiments import Engine, Experiment, Local, run_jobs
from pyro_dwp.experiments.live import display, listing
from pyro_dwp.experiments.lock import locked
from pyro_dwp.experiments.record import missing, write_record
from pyro_dwp.report import experiment_tables
from pyro_dwp.runs import run_script
from pyro_dwp.settings import Flat

SCRIPTS = Path(__file__).parent


def main(
    experiment: Annotated[Experiment, Flat()],
    where: Callable[[], Engine] = Local,
    minutes_per_job: PositiveFloat | None = None,
    dry_run: bool = False,
) -> None:
    """Run the jobs of an experiment that are not done, and print a table for each number of training scans.

    Args:
        where: place where the jobs run: local (this machine) or slurm.
        minutes_per_job: guess of the time of a job where no similar one has finished; null leaves it unknown.
        dry_run: only list the jobs, with their estimated time.
    """
    plan = experiment.plan(SCRIPTS, check_data=not dry_run)
    engine, guess = where(), minutes_per_job and 60 * minutes_per_job
    if dry_run:
        print(listing(plan, engine, guess))
        return
    with locked(experiment.folder), display(engine, guess) as shown:
        progress = run_jobs(plan, engine, lambda state: write_record(plan, state), shown.show)
    print(experiment_tables(experiment.folder))
    if lines := missing(plan, progress):
        print("", "Missing:", *lines, sep="\n")
        raise TrainingError(
            f"{len(progress.failed)} of {len(plan.jobs)} jobs failed; the list above says why. Run the same command again to "
            f"try them once more. What each printed is in {experiment.folder}/*.log."
        )


if __name__ == "__main__":
    sys.exit(run_script(main))
