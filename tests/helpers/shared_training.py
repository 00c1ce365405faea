"""As a script under torchrun, `shared_training.py FOLDER`: what two ranks compute, to FOLDER/RANK.safetensors, for the tests."""

import sys
from dataclasses import replace
from pathlib import Path

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import Trace_ELBO
from pyro.nn import PyroModule, pyro_method
from safetensors.torch import save_file
from torch import Tensor, nn

from pyro_dwp.train import SVI, History, JointAdam, Ranks, Schedule, configure_pyro, fit
from tests.helpers import tiny_run as tiny

DRAWS = 400
START = (2.0, -3.0)
SCHEDULE = Schedule(epochs=6, batch_size=2, learning_rate=0.05, patience=0, threshold=1e9, validate_every=2)
STOP = 5  # epochs after which a run is resumed


class Line(PyroModule):
    """y ~ N(x·w, 1), w ~ N(0, 1), with a guide N(mean, scale); a scale of 0 makes it a point."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.mean, self.scale = nn.Parameter(torch.tensor(START, dtype=torch.float64)), scale

    @pyro_method
    def model(self, x: Tensor, y: Tensor, total: int) -> None:
        prior = dist.Normal(torch.zeros(2, dtype=torch.float64), 1.0).to_event(1)
        w = pyro.sample("w", prior)
        with pyro.plate("items", total, subsample=torch.arange(len(x))):
            pyro.sample("y", dist.Normal(x @ w, 1.0), obs=y)

    @pyro_method
    def guide(self, x: Tensor, y: Tensor, total: int) -> None:
        family = dist.Normal(self.mean, self.scale) if self.scale else dist.Delta(self.mean)
        pyro.sample("w", family.to_event(1))


class LineTask:
    """A `Task` of five items: SVI of a line."""

    def __init__(self, scale: float, ranks: Ranks | None = None, rate: float = 0.05) -> None:
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(5, 2, dtype=torch.float64, generator=generator)
        self.y = torch.randn(5, dtype=torch.float64, generator=generator)
        self.size, self.line = 5, Line(scale)
        adam = JointAdam({"posterior": [self.line]}, rate, ranks=ranks)
        self.optimiser, self.modules = adam.optimiser, {"line": self.line}
        self.svi = SVI(self.line.model, self.line.guide, adam, Trace_ELBO())
        self.gradients: list[Tensor] = []
        self.optimiser.register_step_pre_hook(lambda *_: self.gradients.append(self.line.mean.grad.clone()))

    def step(self, indices: Tensor) -> dict[str, float]:
        return {"loss": self.svi.step(self.x[indices], self.y[indices], self.size)}

    def validate(self) -> dict[str, float]:
        return {"loss": float((self.y - self.x @ self.line.mean.detach()).square().sum())}


def train(folder: Path, task: LineTask, batch: int, ranks: Ranks | None = None) -> History:
    return fit(task, replace(SCHEDULE, batch_size=batch), folder, 0, False, progress=False, ranks=ranks)


def gradients(scale: float, items: Tensor, draws: int, ranks: Ranks | None = None) -> Tensor:
    """Return the gradients (draws, 2) of −ELBO at START from these items, averaged over the ranks."""
    task, sharing = LineTask(scale, ranks, rate=0.0), ranks or Ranks()
    for _ in range(draws):
        task.step(sharing.share(items))
    return torch.stack(task.gradients)


def resumed(folder: Path, ranks: Ranks, resume: bool, epochs: int = tiny.SCHEDULE.epochs) -> None:
    schedule = replace(tiny.SCHEDULE, epochs=epochs)
    fit(tiny.TinyTask(ranks), schedule, folder, 5, resume, progress=False, ranks=ranks)


def missing(ranks: Ranks) -> dict[str, Tensor]:
    """Average gradients that both ranks have, that one has, and that none has."""
    ranks.share(torch.arange(2))
    both, one, none = (nn.Parameter(torch.zeros(2)) for _ in range(3))
    both.grad = torch.full((2,), 1.0 + ranks.rank)
    one.grad = torch.ones(2) if ranks.rank else None
    ranks.average_gradients([both, one, none])
    assert none.grad is None
    return {"both": both.grad, "one": one.grad}


def main(folder: Path) -> None:
    configure_pyro()
    with Ranks(rank_timeout=60.0) as ranks:
        print(f"rank {ranks.rank} speaks")
        torch.manual_seed(ranks.rank)
        found = {f"point/{m}": gradients(0.0, torch.arange(m), 1, ranks) for m in (5, 4, 3, 1)}
        found["random"] = gradients(0.5, torch.arange(3), DRAWS, ranks)
        found |= missing(ranks)
        task = LineTask(0.0, ranks)
        nn.init.constant_(task.line.mean, 9.0) if ranks.rank else None  # replaced by that of rank 0
        train(folder / "line", task, batch=1, ranks=ranks)
        found["mean"] = task.line.mean.detach()
        resumed(folder / "whole", ranks, resume=False)
        found["noise"] = torch.rand(3)
        resumed(folder / "resumed", ranks, resume=False, epochs=STOP)
        resumed(folder / "two_to_one", ranks, resume=False, epochs=STOP)
        resumed(folder / "resumed", ranks, resume=True)
        resumed(folder / "one_to_two", ranks, resume=True)
        told = ranks.from_first(lambda: {"rank": ranks.rank, "loss": float("inf"), "name": "läsion"})
        assert told == {"rank": 0, "loss": float("inf"), "name": "läsion"}
        save_file(found, folder / f"{ranks.rank}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
