"""The signals that ask a script to end: Ctrl-C; SIGTERM, of `kill`, Slurm, systemd and docker; SIGHUP, of a closed terminal."""

import os
import signal
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

STOPS = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
SAME = 10.0  # seconds in which further signals belong to the first: systemd sends two, a terminal reaches a group twice


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Raise KeyboardInterrupt at a stop signal within the block; what arrives in the ten seconds after it is ignored.

    So nothing interrupts a script that puts its things in order, and one that does not end can be asked again. A SIGHUP that was
    ignored before, as under `nohup`, stays ignored. The former handlers return after the block, unless there was a signal: then
    the process is about to end, and all signals are ignored, so that what still arrives changes neither its last words nor its
    status. (As Python ends, it would give a handler's place to the system's, which kills.) For the main thread.

    Yields:
        The numbers of the signals that were heeded, in order; empty at first.
    """
    heeded: list[int] = []
    last = float("-inf")

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal last
        if time.monotonic() - last > SAME:
            last = time.monotonic()
            heeded.append(number)
            leave_closed_terminal()
            raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in STOPS if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        if number == signal.SIGINT or handler != signal.SIG_IGN:
            signal.signal(number, stop)
    try:
        yield heeded
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if heeded else handler)


def leave_closed_terminal() -> None:
    """Send output to nowhere where it would go to a terminal that has been closed, which refuses every further word."""
    for output in (1, 2):
        with suppress(OSError):
            if stat.S_ISCHR(os.fstat(output).st_mode) and not os.isatty(output):
                mute(output)


def mute(output: int) -> None:
    """Send what is written to a file descriptor to nowhere.

    Args:
        output: the descriptor, such as 1 for standard output.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, output)
    os.close(nowhere)
