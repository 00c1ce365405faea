"""Time of work on a machine that does other things, too: interleaved in one process, by clocks that count only this process."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

Work = Callable[[], Any]
Clock = Callable[[Work], float]
"""Does some work and returns how long it took, in seconds."""


def seconds_of(device: torch.device) -> Clock:
    """Return the clock of a device: CPU time of all threads of this process, or the time between two CUDA events.

    Other programs slow the work down through the caches that they share with it, but do not add their own time.

    Example:
        >>> clock = seconds_of(torch.device("cpu"))
        >>> clock(lambda: time.sleep(0.05)) < 0.04
        True
    """
    return _cuda_seconds if device.type == "cuda" else _cpu_seconds


def interleave(works: Sequence[Work], repetitions: int, clock: Clock, warm_up: int = 1) -> list[list[float]]:
    """Time several works in turn, round after round, so that what slows the machine down meets all of them.

    Every other round goes backwards, so that no work always follows the same one.

    Args:
        works: to be timed.
        repetitions: rounds that count.
        clock: see `seconds_of`.
        warm_up: rounds before, which do not count.

    Returns:
        Of each work its seconds, round by round.
    """
    found: list[list[float]] = [[] for _ in works]
    for number in range(warm_up + repetitions):
        order = list(enumerate(works))
        for index, work in order[:: -1 if number % 2 else 1]:
            seconds = clock(work)
            if number >= warm_up:
                found[index].append(seconds)
    return found


def median_seconds(work: Work, repetitions: int, device: torch.device) -> float:
    """Return the median time of some work, in seconds, after once that does not count.

    Args:
        work: to be timed.
        repetitions: times that count.
        device: that it computes on.
    """
    return statistics.median(interleave([work], repetitions, seconds_of(device))[0])


def _cpu_seconds(work: Work) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _cuda_seconds(work: Work) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000
