"""Run the jobs of a plan: each once, after those that it needs, and all that can run although others fail."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pyro_dwp.errors import Interrupted
from pyro_dwp.experiments.engine import Engine
from pyro_dwp.experiments.job import Job
from pyro_dwp.experiments.plan import Plan


@dataclass
class Progress:
    """What has become of the jobs.

    Args:
        jobs: all of them, those that others need first.
        done: those that have finished.
        running: job → when it started, in seconds of `time.monotonic`.
        failed: job → why, for each job that failed or needs one that did.
    """

    jobs: list[Job]
    done: set[Job]
    running: dict[Job, float] = field(default_factory=dict)
    failed: dict[Job, str] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: Plan) -> "Progress":
        """Return the progress of a plan as its folders show it."""
        return cls(plan.jobs, {job for job in plan.jobs if job.done})

    @property
    def left(self) -> list[Job]:
        """The jobs that have not started."""
        return [job for job in self.jobs if not (job in self.done or job in self.running or job in self.failed)]

    @property
    def ready(self) -> list[Job]:
        """The jobs that can start."""
        return [job for job in self.left if self.done.issuperset(job.needs)]

    def ended(self, job: Job, reason: str) -> None:
        """Note that a job ended, and why it failed, "" if it did not, and which others it takes along."""
        del self.running[job]
        if not reason:
            self.done.add(job)
            return
        self.failed[job] = reason
        for other in self.left:
            if lost := next((need for need in other.needs if need in self.failed), None):
                why = self.failed[lost]
                self.failed[other] = why if why.startswith("needs ") else f"needs {lost.name}, which failed: {why}"


def run_jobs(
    plan: Plan, engine: Engine, changed: Callable[[Progress], None], show: Callable[[Progress], None]
) -> Progress:
    """Run every job that is not done.

    Args:
        plan: the jobs.
        engine: where they run.
        changed: called at first and whenever a job has ended.
        show: called about once a second.

    Raises:
        Interrupted: on Ctrl-C, when all jobs have stopped.
    """
    progress = Progress.of(plan)
    engine.check(progress.left)
    changed(progress)
    try:
        while True:
            progress.running |= dict.fromkeys(engine.start(progress.ready), time.monotonic())
            show(progress)
            if not progress.running:
                return progress
            ended = engine.ended()
            for job, reason in ended.items():
                progress.ended(job, reason)
            if ended:
                changed(progress)
    except KeyboardInterrupt as interrupt:
        raise Interrupted(
            "Stopped. Run the same command again: what has finished is kept, the rest resumed."
        ) from interrupt
    finally:
        engine.stop()
