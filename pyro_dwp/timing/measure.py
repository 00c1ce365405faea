"""Measure all entries of a table, and compare each with its reference, round by round."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pyro_dwp.timing.clock import interleave, seconds_of
from pyro_dwp.timing.profile import profile
from pyro_dwp.timing.table import Entry


@dataclass(frozen=True)
class Measured:
    """One entry of a table, measured.

    Args:
        name: of the row.
        precision: that it computes in.
        grid: voxels of a scan along each axis.
        scans: in a minibatch.
        seconds: of each round.
        peak_mib: the most memory, see `Profile`.
        gflop: floating-point operations, in thousands of millions.
        parts: part → share of the time.
        against: name of the row that it is compared with.
        ratios: to that row's seconds, of each round.
        memory_ratio: to that row's memory.
        series: that it belongs to.
        size: its place there.
    """

    name: str
    precision: str
    grid: tuple[int, ...]
    scans: int
    seconds: tuple[float, ...]
    peak_mib: float
    gflop: float
    parts: dict[str, float] = field(default_factory=dict)
    against: str | None = None
    ratios: tuple[float, ...] = ()
    memory_ratio: float | None = None
    series: str | None = None
    size: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return all of it and the medians, for JSON."""
        ratio = statistics.median(self.ratios) if self.ratios else None
        return asdict(self) | {"median_seconds": statistics.median(self.seconds), "median_ratio": ratio}


def measure(chosen: Sequence[Entry], repetitions: int) -> list[Measured]:
    """Measure entries: memory and parts each on its own, then the time of all of them, interleaved.

    Args:
        chosen: see `entries`; each with what it is compared with.
        repetitions: rounds.
    """
    profiles = [profile(entry.make, entry.bench.device) for entry in chosen]
    works = [entry.make().run for entry in chosen]
    seconds = interleave(works, repetitions, seconds_of(chosen[0].bench.device))
    found = []
    for number, entry in enumerate(chosen):
        row, other = entry.row, reference(chosen, entry)
        own, size = profiles[number], profiles[number].peak_bytes
        found.append(
            Measured(
                entry.name,
                entry.precision,
                entry.bench.grid,
                entry.bench.scans,
                tuple(seconds[number]),
                size / 2**20,
                own.flops / 1e9,
                own.parts,
                row.against,
                () if other is None else pairwise_ratios(seconds[number], seconds[other], row.times),
                None if other is None else size / profiles[other].peak_bytes,
                row.series,
                row.size,
            )
        )
    return found


def reference(chosen: Sequence[Entry], entry: Entry) -> int | None:
    """Return the place of the entry that another is compared with: in the same precision, or else the first of its row."""
    same = [number for number, other in enumerate(chosen) if other.name == entry.row.against]
    return next((number for number in same if chosen[number].precision == entry.precision), next(iter(same), None))


def pairwise_ratios(own: Sequence[float], other: Sequence[float], times: int = 1) -> tuple[float, ...]:
    """Return the ratio of the seconds of each round.

    Args:
        own: seconds, round by round.
        other: of what it is compared with, in the same rounds.
        times: the others count so many times.

    Example:
        >>> pairwise_ratios([3.0, 4.0], [1.0, 2.0]), pairwise_ratios([3.0], [1.0], times=2)
        ((3.0, 2.0), (1.5,))
    """
    return tuple(mine / (times * theirs) for mine, theirs in zip(own, other, strict=True))
