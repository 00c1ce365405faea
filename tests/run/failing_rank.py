"""As a script under torchrun, `failing_rank.py HOW STEP FLAGS…`: svi_target.py whose rank 1 fails in a step of this number."""

import math
import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any

from pyro_dwp.train import VariationalTask

SCRIPT = str(Path(__file__).parents[2] / "run" / "svi_target.py")


def failing(how: str, number: int) -> Any:
    """Return `VariationalTask.step`, but in its call of this number, from 1, it is killed, interrupted, or the loss is NaN."""
    calls, step = iter(range(1, sys.maxsize)), VariationalTask.step

    def wrapped(*arguments: Any) -> dict[str, float]:
        failed = next(calls) == number
        if failed and how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if failed and how == "ctrl-c":
            os.killpg(0, signal.SIGINT)  # as a terminal does: torchrun and every rank
        return step(*arguments) | ({"loss": math.nan} if failed and how == "nan" else {})

    return wrapped


if __name__ == "__main__":
    how, number, *flags = sys.argv[1:]
    if os.environ["RANK"] == "1":
        VariationalTask.step = failing(how, int(number))  # type: ignore[method-assign]
    sys.argv = [SCRIPT, *flags]
    runpy.run_path(SCRIPT, run_name="__main__")
