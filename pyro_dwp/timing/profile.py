"""Where the time of some work goes, the most memory that it holds and the operations that it takes, as PyTorch counts them.

Each operation of tensors belongs to the innermost named part that is running, and each backward operation to the part of the
operation whose gradient it computes (both have the same sequence number). What is left is time in which no operation ran: Python
and, on a GPU, waiting for it. So the parts sum to the whole.

The profiler takes time itself, for each operation, so that many small ones look dearer here than they are.
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, record_function
from torch.utils.flop_counter import FlopCounterMode

from pyro_dwp.timing.workload import Seams, Workload

WHOLE, PART = "timed work", "part: "
BACKWARD = "autograd::engine::evaluate_function"
NETWORK, OTHER, REST = "network", "other tensors", "Pyro and Python"
TIMES = 3  # that the work is looked at; the shares are those of the quickest, which other programs disturbed least


@dataclass(frozen=True)
class Profile:
    """Where the time of some work goes, and the memory that it needs.

    Args:
        parts: part → its share of the time; they sum to 1.
        peak_bytes: the most that tensors held while the work was done, what it keeps from before included (weights, optimiser,
            scans). On a CPU this leaves out what libraries take for themselves during an operation.
        flops: floating-point operations of convolutions and products of matrices; a multiplication and an addition are two.
    """

    parts: dict[str, float]
    peak_bytes: int
    flops: int


def profile(make: Callable[[], Workload], device: torch.device) -> Profile:
    """Build some work, do it once, and look at it several times.

    Args:
        make: builds it.
        device: that it computes on.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler would report each start and end
    cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * cuda]
    before = torch.cuda.memory_allocated(device) if cuda else 0
    with torch.profiler.profile(activities=activities, profile_memory=not cuda) as found:
        work = make()
        work.run()
        if cuda:
            torch.cuda.reset_peak_memory_stats(device)
        with named(work.seams):
            for _ in range(TIMES):
                with record_function(WHOLE):
                    work.run()
                    if cuda:
                        torch.cuda.synchronize(device)
    parts = shares(
        [event for event in found.events() or () if event.device_type == torch.profiler.DeviceType.CPU], cuda
    )
    peak = torch.cuda.max_memory_allocated(device) - before if cuda else _peak(found)
    with FlopCounterMode(display=False) as counted:
        work.run()
    return Profile(parts, peak, int(counted.get_total_flops()))


@contextmanager
def named(seams: Seams) -> Iterator[None]:
    """Have the profiler see each method by the name of its part."""
    with ExitStack() as stack:
        for part, (owner, method) in seams.items():
            restore = partial(setattr, owner, method, vars(owner)[method]) if method in vars(owner) else None
            setattr(owner, method, partial(_ranged, PART + part, getattr(owner, method)))
            stack.callback(restore or partial(delattr, owner, method))
        yield


def _ranged(name: str, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with record_function(name):
        return method(*args, **kwargs)


def shares(events: Iterable[FunctionEvent], cuda: bool = False) -> dict[str, float]:
    """Return part → share of the time of the quickest event `WHOLE`; the network's backward pass is a part of its own.

    Args:
        events: of the profiler, those of the CPU.
        cuda: count the time that operations take on the GPU.
    """
    events = sorted(events, key=lambda event: float(event.time_range.start))
    whole = min((event for event in events if event.name == WHOLE), key=lambda event: event.time_range.elapsed_us())
    inside = [e for e in events if _within(e, whole) and e.name != WHOLE and not e.name.startswith(PART)]
    forward = {e.sequence_nr: _part(e, {}) for e in inside if e.sequence_nr >= 0 and not _is_backward(e)}
    found: dict[str, float] = {}
    for event in inside:
        part, time = _part(event, forward), event.self_device_time_total if cuda else event.self_cpu_time_total
        found[part] = found.get(part, 0.0) + time
    total = float(whole.time_range.elapsed_us())
    return {part: time / total for part, time in {**found, REST: total - sum(found.values())}.items()}


def _within(event: FunctionEvent, whole: FunctionEvent) -> bool:
    """Tell by the clock, because on a GPU another thread goes backwards."""
    span, own = whole.time_range, event.time_range
    return bool(span.start <= own.start and own.end <= span.end)


def _part(event: FunctionEvent, forward: dict[int, str]) -> str:
    """Return the part of an operation, given those of the forward operations by sequence number."""
    at: FunctionEvent | None = event
    while at is not None and at.name != WHOLE:
        if at.name.startswith(PART):
            part = at.name.removeprefix(PART)
            return f"{part} forward" if part == NETWORK else part
        if at.name.startswith(BACKWARD):
            return forward.get(at.sequence_nr, OTHER).replace("forward", "backward")
        at = at.cpu_parent
    return OTHER


def _is_backward(event: FunctionEvent) -> bool:
    at: FunctionEvent | None = event
    while at is not None and not at.name.startswith(BACKWARD):
        at = at.cpu_parent
    return at is not None


def _peak(found: torch.profiler.profile) -> int:
    """Return the most bytes of tensors while `WHOLE` ran, of those that were made since the profiler began."""
    with tempfile.TemporaryDirectory() as folder:
        found.export_chrome_trace(str(path := Path(folder) / "trace.json"))
        events = json.loads(path.read_text())["traceEvents"]
    begin = min(event["ts"] for event in events if event["name"] == WHOLE)
    held: set[int] = set()
    level = peak = 0
    for event in sorted((event for event in events if event["name"] == "[memory]"), key=lambda event: event["ts"]):
        size, place = event["args"]["Bytes"], event["args"]["Addr"]
        if size > 0 or place in held:  # what was there before the profiler does not count when it goes
            level += size
            (held.add if size > 0 else held.discard)(place)
        peak = max(peak, level if event["ts"] >= begin else 0)
    return peak
