"""How long jobs will take, from those that have finished."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping

from pyro_dwp.experiments.engine import Engine
from pyro_dwp.experiments.job import Job


def estimate_seconds(jobs: Iterable[Job], guess: float | None = None) -> dict[Job, float | None]:
    """Return how long each job is expected to take, in seconds.

    It is the median of the finished jobs of the same group (method and number of scans) or, where there are none, of the same
    script; else the guess or, without one, the median of all finished jobs; None if there are none.

    Args:
        jobs: finished and unfinished.
        guess: in seconds.
    """
    found: dict[object, list[float]] = defaultdict(list)
    jobs = list(jobs)
    for job in jobs:
        if (seconds := job.seconds()) is not None:
            found[job.group].append(seconds)
            found[job.script].append(seconds)
            found[None].append(seconds)
    medians = {key: statistics.median(values) for key, values in found.items()}
    other = guess or medians.get(None)
    return {job: medians.get(job.group, medians.get(job.script, other)) for job in jobs}


def time_to_go(estimates: Mapping[Job, float | None], elapsed: Mapping[Job, float], engine: Engine) -> float | None:
    """Return the seconds until the last of some jobs ends, if the machine is kept busy; None if a job's time is unknown.

    Args:
        estimates: job → seconds, for all jobs that have not finished.
        elapsed: job → seconds since it started, for those that run.
        engine: where they run.

    Returns:
        Σ max(0, estimate − elapsed) / (number of such jobs at the same time), but at least the longest of them.
    """
    rest = {}
    for job, seconds in estimates.items():
        if seconds is None:
            return None
        rest[job] = max(0.0, seconds - elapsed.get(job, 0.0))
    return max([sum(seconds / engine.width(job) for job, seconds in rest.items()), *rest.values()])
