"""A script like those in run/, for the tests of command lines.

Example:
    python sample_script.py --config other
"""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from guides import Guide, MeanField
from pyro_dwp.cli import begin_run
from pyro_dwp.data import CaseSource, Phantoms, Preprocess
from pyro_dwp.errors import DataError
from pyro_dwp.nn import UNet
from pyro_dwp.priors import Gaussian, PriorFamily
from pyro_dwp.train import Schedule, fit

CALLS: list[dict[str, Any]] = []


class Task:
    """One weight pulled to zero; the user presses Ctrl-C in a step of this number, from 1."""

    def __init__(self, interrupted: int) -> None:
        self.size, self.steps, self.interrupted = 2, 0, interrupted
        self.layer = nn.Linear(1, 1)
        self.modules: dict[str, nn.Module] = {"layer": self.layer}
        self.optimiser: torch.optim.Optimizer = torch.optim.Adam(self.layer.parameters())

    def step(self, indices: Tensor) -> dict[str, float]:
        self.steps += 1
        if self.steps == self.interrupted:
            signal.raise_signal(signal.SIGINT)
        self.optimiser.zero_grad()
        loss = self.layer(torch.ones(1, 1)).square().sum()
        loss.backward()
        self.optimiser.step()
        return {"loss": loss.item()}

    def validate(self) -> dict[str, float]:
        return {}


def main(
    data: CaseSource = Phantoms(disease="plaques"),  # noqa: B008
    preprocess: Preprocess = Preprocess(),  # noqa: B008
    network: Callable[[], nn.Module] = UNet,
    guide: Callable[[dict, dict], Guide] = MeanField,
    prior: PriorFamily = Gaussian(gain=2.0),  # noqa: B008
    schedule: Schedule = Schedule(epochs=4),  # noqa: B008
    seed: int = 0,
    missing: Path | None = None,
    interrupted: int = 0,
    name: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    max_seconds: float | None = None,
) -> None:
    """Train next to nothing.

    Args:
        data: labelled cases.
        preprocess: how a scan becomes the network's input.
        network: class of the network.
        guide: class of the guide.
        prior: of the kernels.
        schedule: length of the training.
        seed: of everything.
        missing: a file that does not exist.
        interrupted: step at which Ctrl-C is pressed, from 1.
        name: of the run's folder under runs/.
        resume: continue the run of this name.
        overwrite: delete the run of this name first.
        max_seconds: longest training, in seconds.
    """
    CALLS.append(dict(locals()))
    folder = begin_run("sample_script", name, resume, overwrite)
    if missing is not None:
        (folder / "half_written").write_text("...")
        raise DataError(f"There is no file {missing}. Check the path.")
    torch.manual_seed(seed)
    history = fit(Task(interrupted), schedule, folder, seed, resume, max_seconds=max_seconds)
    print(f"{len(history.rows)} epochs in {folder}")
