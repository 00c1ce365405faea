"""As a script, `killed_run.py SEED KILLS NAME FLAGS…`: a run of svi_target.py that is killed and resumed repeatedly.

Every attempt is a child process that kills itself with SIGKILL at a random moment: in a step, as a file is about to
appear, or before a test scan is predicted. The last one is let live. Their exit statuses are printed.
"""

import os
import random
import runpy
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pyro_dwp.predict import cases
from pyro_dwp.report import run_figures
from pyro_dwp.train import VariationalTask

SCRIPT = Path(__file__).parents[2] / "run" / "svi_target.py"
MOMENTS = ((VariationalTask, "step", 9), (os, "replace", 4), (cases, "predict_scan", 2))


def kill_at(owner: Any, name: str, number: int) -> None:
    """Have the call of this number, from 1, kill the process before anything else happens."""
    original: Callable[..., Any] = getattr(owner, name)
    calls = iter(range(1, sys.maxsize))

    def watched(*arguments: Any, **named: Any) -> Any:
        if next(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **named)

    setattr(owner, name, watched)


def attempt(flags: list[str], moment: tuple[Any, str, int] | None) -> int:
    """Run the script in a child that is killed at a moment, if any; return its exit status."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if moment:
                kill_at(*moment)
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.argv = [str(SCRIPT), *flags]
            runpy.run_path(str(SCRIPT), run_name="__main__")
        except SystemExit as end:
            status = int(end.code or 0)
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    torch.set_num_threads(1)
    runpy.run_path(str(SCRIPT))  # the parent imports what every child would import,
    torch.optim.Adam([torch.zeros(1)])  # torch's compiler, which its optimisers load, included
    run_figures.save_figure = lambda figure, path: path
    draw, kills, name, flags = random.Random(int(sys.argv[1])), int(sys.argv[2]), sys.argv[3], sys.argv[4:]
    begin = [*flags, "--name", name]
    for _ in range(kills):
        owner, what, latest = draw.choice(MOMENTS)
        print(attempt(begin, (owner, what, draw.randint(1, latest))), end=" ")
        if (Path("runs") / name / "config.yaml").exists():
            begin = ["--resume", "--name", name]
    print(attempt(begin, None))
