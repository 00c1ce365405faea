"""As a script, `killed_run.py SEED KILLS NAME FLAGS…`: a run of svi_target.py that is killed and resumed repeatedly.

Every attempt but the last is a child that kills itself at one of MOMENTS, in a random call of it. It prints their exit statuses.
"""

import os
import random
import runpy
import sys
from importlib import import_module
from pathlib import Path

import torch

from pyro_dwp.predict import Predictor
from pyro_dwp.report import run_figures
from pyro_dwp.train import VariationalTask
from tests.helpers.tiny_run import kill_at

SCRIPT = str(Path(__file__).parents[2] / "run" / "svi_target.py")
LATE = ("nibabel", "matplotlib.figure", "scipy.stats", "torch.utils.tensorboard.summary")
MOMENTS = ((VariationalTask, "step", 9), (os, "replace", 9), (Predictor, "predict", 3))


def attempt(flags: list[str], owner: object, name: str, number: int) -> int:
    """Run the script in a child that is killed in a call of this number, 0 for none; return its exit status."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            setattr(owner, name, kill_at(number, getattr(owner, name)))
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.argv = [SCRIPT, *flags]
            runpy.run_path(SCRIPT, run_name="__main__")
        except SystemExit as end:
            status = int(end.code or 0)
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    runpy.run_path(SCRIPT)  # the parent imports what every child would import: at once,
    list(map(import_module, LATE))  # when it is used,
    torch.optim.Adam([torch.zeros(1)])  # and torch's compiler, which its optimisers load
    run_figures.save_figure = lambda figure, path: path
    draw, kills, name, flags = random.Random(int(sys.argv[1])), int(sys.argv[2]), sys.argv[3], sys.argv[4:]
    begin = [*flags, "--name", name]
    for _ in range(kills):
        owner, what, latest = draw.choice(MOMENTS)
        print(attempt(begin, owner, what, draw.randint(1, latest)), end=" ")
        if (Path("runs") / name / "config.yaml").exists():
            begin = ["--resume", "--name", name]
    print(attempt(begin, os, "replace", 0))
