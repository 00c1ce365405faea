"""How a script ends: whatever can be foreseen is one line on standard error and an exit status; a bug keeps its traceback."""

import errno
import re
import signal
import sys
from collections.abc import Callable

import torch

from pyro_dwp.errors import PyroDwpError
from pyro_dwp.signals import mute, stop_signals
from pyro_dwp.train.ranks import first_to_fail

BAD_INPUT, BROKEN_PIPE = 2, 141
KILLED = 128  # and the number of the signal
FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
NO_MEMORY = re.compile(r"out of memory|not enough memory|can(?:'t|not) allocate memory|ALLOC_FAILED", re.IGNORECASE)
ASKED = re.compile(r"allocate ([\d.]+ ?\w+)", re.IGNORECASE)


def exit_status(work: Callable[[], object]) -> int:
    """Do the work of a script and return its exit status.

    Args:
        work: to do; its result is not used.

    Returns:
        0; 2 after an error that the user can act on; 130, 143 or 129 after Ctrl-C, SIGTERM or SIGHUP; 141 if the reader of the
        output, or its terminal, has gone.
    """
    with stop_signals() as heeded:
        try:
            work()
            sys.stdout.flush()
        except KeyboardInterrupt as interrupt:
            _report(f"\n{str(interrupt) or 'Stopped.'}")
            return KILLED + (heeded or [signal.SIGINT])[0]
        except Exception as error:
            if not (reader_gone(error) or (sentence := what_to_do(error))):
                raise
            try:
                sys.stdout.flush()
            except OSError:  # which would be raised once more when Python ends
                mute(sys.stdout.fileno())
            if reader_gone(error):
                return BROKEN_PIPE
            _report(f"error: {sentence}")
            return BAD_INPUT
    return 0


def reader_gone(error: Exception) -> bool:
    """Tell whether a program that read the output has ended, or the terminal was closed."""
    return isinstance(error, BrokenPipeError) or (
        isinstance(error, OSError) and error.errno == errno.EIO and error.filename is None
    )


def what_to_do(error: Exception) -> str:
    """Return the sentence for an error that the user can act on; "" for any other, which is a bug."""
    if isinstance(error, PyroDwpError):
        cause = error.__cause__
        extended = isinstance(cause, PyroDwpError) and error.args[0].startswith(
            f"{cause}\n"
        )  # by Pyro's table of shapes
        return str(cause if extended else error)
    if isinstance(error, OSError) and error.errno in FULL_DISK:
        return f"{error.filename or 'The output'} cannot be written ({error.strerror}). Free some space."
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return _memory(error)
    return _memory(error) if isinstance(error, RuntimeError) and NO_MEMORY.search(str(error)) else ""


def _report(text: str) -> None:
    """Print why the script ends, in the first of its processes that fails."""
    if first_to_fail():
        print(text, file=sys.stderr, flush=True)


def _memory(error: Exception) -> str:
    asked = ASKED.search(str(error))
    found = f"{asked[1]} more were asked for" if asked else str(error).split("\n")[0] or type(error).__name__
    return (
        f"Memory ran out ({found}). Usual cures, in a new run: smaller patches (patch), a smaller schedule.batch_size, a coarser "
        "grid or spacing (preprocess), fewer network.channels. What a run has kept is intact: where there is more memory, it "
        "goes on with --resume."
    )
