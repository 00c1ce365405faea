"""What runs, what is left, the time to go: a live table in a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pyro_dwp.experiments.engine import Engine
from pyro_dwp.experiments.estimate import estimate_seconds, time_to_go
from pyro_dwp.experiments.job import Job
from pyro_dwp.experiments.plan import Plan
from pyro_dwp.experiments.runner import Progress
from pyro_dwp.train.pace import duration

SECONDS = 10.0  # between two lines where there is no terminal
SHOWN = 20  # running jobs in the table


class Display:
    """Shows the progress of an experiment.

    Args:
        engine: where the jobs run.
        guess: of the seconds of a job of which nothing is known; None leaves them unknown.
        live: of a terminal; None prints lines.
    """

    def __init__(self, engine: Engine, guess: float | None, live: Live | None = None) -> None:
        self.engine, self.guess, self.live = engine, guess, live
        self.estimates: dict[Job, float | None] = {}
        self.counted, self.printed, self.last = -1, 0.0, ""

    def show(self, progress: Progress) -> None:
        """Show the progress now, or, where there is no terminal, if it has changed and the last line is ten seconds old."""
        if self.counted != len(progress.done):
            self.counted, self.estimates = len(progress.done), estimate_seconds(progress.jobs, self.guess)
        line = self.line(progress)
        if self.live:
            self.live.update(Group(self.table(progress), Text(line)))
        elif line != self.last and time.monotonic() - self.printed >= SECONDS:
            print(line, flush=True)
            self.last, self.printed = line, time.monotonic()

    def line(self, progress: Progress) -> str:
        """Return the state in a line."""
        elapsed = {job: time.monotonic() - since for job, since in progress.running.items()}
        left = {job: self.estimates[job] for job in (*progress.running, *progress.left)}
        failed = f", {len(progress.failed)} failed" if progress.failed else ""
        togo = duration(time_to_go(left, elapsed, self.engine)) if left else "none"
        return (
            f"{len(progress.done)} of {len(progress.jobs)} jobs done, {len(progress.running)} running, "
            f"{len(progress.left)} left{failed}; time to go: {togo}"
        )

    def table(self, progress: Progress) -> Table:
        """Return a table of the jobs that run."""
        table = Table("running", "for", "of about", box=None, pad_edge=False)
        for job, since in list(progress.running.items())[:SHOWN]:
            expected = self.estimates[job]
            table.add_row(Text(job.name), duration(time.monotonic() - since), duration(expected))
        return table


@contextmanager
def display(engine: Engine, guess: float | None) -> Iterator[Display]:
    """Yield a display on standard output, live if that is a terminal."""
    if not sys.stdout.isatty():
        yield Display(engine, guess)
        return
    with Live(console=Console(), transient=True, refresh_per_second=2) as live:
        yield Display(engine, guess, live)


def listing(plan: Plan, engine: Engine, guess: float | None) -> str:
    """Return all jobs with what they need and the time that they are expected to take, and the sum.

    Args:
        plan: the jobs.
        engine: where they would run.
        guess: of the seconds of a job of which nothing is known, or None.
    """
    estimates = estimate_seconds(plan.jobs, guess)
    lines = []
    for job in plan.jobs:
        needs = f", needs {', '.join(need.name for need in job.needs)}" if job.needs else ""
        lines.append(f"{job.script.stem} {job.folder}: {'done' if job.done else duration(estimates[job])}{needs}")
    left = {job: estimates[job] for job in plan.jobs if not job.done}
    togo = duration(time_to_go(left, {}, engine)) if left else "none"
    if togo == "unknown":
        togo += " until a job has finished; a guess of your own: --minutes_per_job MINUTES"
    return "\n".join([*lines, f"{len(plan.jobs)} jobs, {len(left)} of them not done; time to go: {togo}"])
