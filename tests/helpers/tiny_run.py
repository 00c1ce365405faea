"""A training of a second; as a script, `tiny_run.py FOLDER SEED KILLS`, one that is killed and resumed repeatedly."""

import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import Trace_ELBO
from pyro.nn import PyroModule, pyro_method
from torch import Tensor, nn

from pyro_dwp.train import SVI, History, JointAdam, Ranks, Schedule, configure_pyro, fit

SCHEDULE = Schedule(epochs=12, batch_size=3, patience=1, threshold=0.05, stop_rate=1e-9, checkpoint_every=2)


class Regression(PyroModule):
    """Linear regression with dropout: model, and mean-field guide over its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(3))
        self.log_scale = nn.Parameter(torch.full((3,), -2.0))
        self.noise = nn.Parameter(torch.zeros(()))

    @pyro_method
    def model(self, x: Tensor, y: Tensor) -> None:
        w = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        with pyro.plate("items", len(x)):
            pyro.sample("y", dist.Normal(nn.functional.dropout(x, 0.2) @ w, self.noise.exp()), obs=y)

    @pyro_method
    def guide(self, x: Tensor, y: Tensor) -> None:
        pyro.sample("w", dist.Normal(self.mean, self.log_scale.exp()).to_event(1))


class TinyTask:
    """A `Task` with random numbers in steps and validation, and two groups of parameters."""

    def __init__(self, ranks: Ranks | None = None) -> None:
        torch.manual_seed(3)
        self.x = torch.randn(8, 3)
        self.y = self.x @ torch.tensor([1.0, -2.0, 0.5])
        self.size = 8
        self.program, self.network = Regression(), nn.Linear(3, 1)
        groups, rates = {"posterior": [self.program], "encoders": [self.network]}, {"posterior": 1e-2, "encoders": 1e-3}
        adam = JointAdam(groups, rates, clip_norm=5.0, ranks=ranks)
        self.optimiser = adam.optimiser
        self.modules: dict[str, nn.Module] = {"program": self.program, "network": self.network}
        self.svi = SVI(self.program.model, self.program.guide, adam, Trace_ELBO())

    def step(self, indices: Tensor) -> dict[str, float]:
        x, y = self.x[indices], self.y[indices]
        fitted = (self.network(x).squeeze(1) - y).square().mean()
        fitted.backward()
        return {"loss": self.svi.step(x, y), "fitted": fitted.item()}

    def validate(self) -> dict[str, float]:
        with torch.no_grad():
            noisy = self.network(self.x + 0.1 * torch.randn_like(self.x)).squeeze(1)
        return {"loss": (noisy - self.y).square().mean().item(), "dice": 0.5}


def run(folder: Path, resume: bool, task: TinyTask | None = None, schedule: Schedule = SCHEDULE) -> History:
    return fit(task or TinyTask(), schedule, folder, seed=5, resume=resume, progress=False)


def kill_at(count: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function so that its call of this number, from 1, kills the process before anything else happens."""
    calls = iter(range(1, sys.maxsize))

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)

    return wrapped


def killed_child(folder: Path, step: int, write: int) -> int:
    """Run in a child that is killed at a step or while it writes a checkpoint; return its exit status."""
    child = os.fork()
    if child == 0:
        task = TinyTask()
        task.step = kill_at(step, task.step)  # type: ignore[method-assign]
        os.replace = kill_at(write, os.replace)
        run(folder, resume=True, task=task)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    configure_pyro()
    torch.set_num_threads(1)
    TinyTask()  # imports what torch imports late, once for all children
    folder, seed, kills = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    draw, never = random.Random(seed), 10**6
    for _ in range(kills):
        step, write = (draw.randint(1, 12), never) if draw.random() < 0.7 else (never, draw.randint(1, 3))
        print(killed_child(folder, step, write), end=" ")
    print(killed_child(folder, never, never))
