"""The loop that every training of the library runs: source networks, kernel VAE, and SVI on the target.

What is trained is a `Task`; the loop decides the order of the items, lowers the rate, keeps history and checkpoints,
and stops. A run killed at any moment and resumed takes the same steps, bit for bit on a CPU, as one that was not: the
order of an epoch follows from (seed, epoch) alone, and a checkpoint holds weights, optimiser, rate rule and torch's
random numbers as they were at the end of an epoch.
"""

import math
import statistics
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from pyro_dwp.errors import CheckpointError, ConfigError, Interrupted, TrainingError
from pyro_dwp.train import checkpoint
from pyro_dwp.train.progress import Display, describe
from pyro_dwp.train.schedule import Schedule

Row = dict[str, float]

CURES = (
    "The checkpoint of an earlier epoch is intact. Usual cures: a lower schedule.learning_rate, clipped gradients, "
    "float32 instead of bf16, and a look at the images for values that are not finite."
)
UNTRAINED = "Nothing was trained yet, so the learning rate is not to blame."
AT_FIRST = {
    "data": "for data, values of the scans that are not finite, or weights so large that the network's output is not",
    "kl": "for kl, a prior whose support is not all real numbers (such as HalfNormal or Uniform) under a guide over all of them, "
    "or a mean or scale, of prior or guide, that is not a number",
}
PLATEAU_STATE = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch", "_last_lr")


class Task(Protocol):
    """What `fit` trains.

    Everything that changes from step to step must be reached through `modules` (a step counter as a buffer) or
    `optimiser`, and all randomness drawn from torch's global generator; a resumed run has lost anything else.

    Attributes:
        size: number of training items.
        modules: name → module to keep in the checkpoint.
        optimiser: the torch optimiser, whose groups the schedule slows.
    """

    size: int
    modules: dict[str, nn.Module]
    optimiser: Optimizer

    def step(self, indices: Tensor) -> dict[str, float]:
        """Take one optimisation step on the items of these indices, (B,) int64; return "loss" and its parts."""
        ...

    def validate(self) -> dict[str, float]:
        """Return the validation's "loss", which drives the rate, and other scores; {} where there is no validation."""
        ...


class Writer(Protocol):
    """Where `fit` sends scalars besides the history, e.g. a `Logbook`."""

    def start(self, epoch: int) -> None:
        """Forget what was written for this epoch and later ones."""
        ...

    def scalars(self, step: int, values: Mapping[str, float], prefix: str = "") -> None:
        """Write named values of an epoch."""
        ...


@dataclass
class History:
    """What happened, epoch by epoch.

    Attributes:
        rows: one dict per epoch: "epoch" (from 1), "train/…" (means over the items), "validation/…" (where it was
            validated), "rate/…" (per group, during the epoch), "seconds" (wall time of the epoch) and
            "seconds_per_step" (without validation).
        stopped: why it ended: "epochs", "rate", "time", or "" while it runs.
    """

    rows: list[Row] = field(default_factory=list)
    stopped: str = ""

    @property
    def seconds(self) -> float:
        """Wall time of all epochs, in seconds, interruptions left out."""
        return sum(row["seconds"] for row in self.rows)

    @property
    def seconds_per_step(self) -> float:
        """Median over the epochs of the wall time of an optimisation step, in seconds, validation left out."""
        return statistics.median(self.column("seconds_per_step"))

    def column(self, name: str) -> list[float]:
        """Return one quantity over the epochs that have it, e.g. "validation/dice"."""
        return [row[name] for row in self.rows if name in row]


def fit(
    task: Task,
    schedule: Schedule,
    folder: Path,
    seed: int,
    resume: bool,
    writer: Writer | None = None,
    progress: bool = True,
    max_seconds: float | None = None,
) -> History:
    """Train a task, leaving a checkpoint at every moment from which `resume` continues exactly.

    The weights at the end are the last ones, not those of the best validation.

    Args:
        task: what to train; its modules and optimiser are changed in place.
        schedule: length, batch size, rate rule, and how often to validate and to keep a checkpoint.
        folder: of the run; the checkpoint goes to `checkpoint/` in it.
        seed: of the order of the items; torch's global generator is the caller's to seed.
        resume: continue from the checkpoint in `folder`; where there is none yet, begin.
        writer: receives each epoch's values.
        progress: show them on standard output.
        max_seconds: stop after the epoch in which training time passes this, in seconds over all resumptions.

    Returns:
        The history from the first epoch on, also of a resumed run.

    Raises:
        CheckpointError: if `folder` already holds a checkpoint and `resume` is False, or it belongs to another task.
        TrainingError: if the loss, or a weight, is no longer a finite number; the last checkpoint is intact.
        Interrupted: on Ctrl-C; the last checkpoint is intact.
    """
    if task.size < 1:
        raise ConfigError("Training needs at least one item, but the task has none.")
    plateau = schedule.plateau(task.optimiser)
    history = _begin(task, folder, seed, resume, plateau)
    done = len(history.rows)
    if done and writer is not None:
        writer.start(done + 1)
    try:
        with Display(schedule.epochs, schedule.batches(task.size), done, progress) as display:
            while not (stopped := _reason(task, schedule, history, max_seconds)):
                number = len(history.rows) + 1
                row = _epoch(task, schedule, number, seed, plateau, display)
                history.rows.append(row)
                if writer is not None:
                    writer.scalars(number, row)
                if number % schedule.checkpoint_every == 0 or _reason(task, schedule, history, max_seconds):
                    _keep(task, folder, seed, history, plateau)
    except KeyboardInterrupt as interrupt:
        kept = (checkpoint.peek(folder) or {"epoch": 0})["epoch"]
        raise Interrupted(
            f"Stopped in epoch {len(history.rows) + 1}. The state after {kept} epoch(s) is kept in "
            f"{Path(folder) / checkpoint.FILE}; run the same command with --resume (and without --overwrite) to continue."
        ) from interrupt
    history.stopped = stopped
    return history


def epoch_order(size: int, seed: int, epoch: int) -> Tensor:
    """Return the order of the items in one epoch, (size,) int64; it depends on nothing but the arguments.

    Args:
        size: number of training items.
        seed: of the run.
        epoch: from 1.
    """
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
    return torch.randperm(size, generator=generator)


def _begin(task: Task, folder: Path, seed: int, resume: bool, plateau: ReduceLROnPlateau) -> History:
    """Restore the last checkpoint, or write the first, so that from now on there always is one."""
    state = checkpoint.peek(folder)
    if state is None:
        history = History()
        _keep(task, folder, seed, history, plateau)
        return history
    path = Path(folder) / checkpoint.FILE
    if not resume:
        raise CheckpointError(f"{path} already holds a training. Continue it with --resume, or choose another --name.")
    if state["seed"] != seed:
        raise CheckpointError(f"{path} was trained with seed {state['seed']}, not {seed}. Resume with its own seed.")
    checkpoint.load(folder, task.modules, task.optimiser)
    plateau.load_state_dict(state["plateau"])
    return History(rows=state["rows"])


def _keep(task: Task, folder: Path, seed: int, history: History, plateau: ReduceLROnPlateau) -> None:
    """Write a checkpoint, unless a weight is broken: then the former one is worth more."""
    for name, module in task.modules.items():
        for key, value in module.state_dict().items():
            if isinstance(value, Tensor) and not torch.isfinite(value).all():
                raise TrainingError(
                    f"After epoch {len(history.rows)}, {key!r} of {name} holds values that are not finite, so it was "
                    f"not kept. {CURES}"
                )
    scheduler = {key: value for key, value in plateau.state_dict().items() if key in PLATEAU_STATE}
    state = {"epoch": len(history.rows), "seed": seed, "rows": history.rows, "plateau": scheduler}
    checkpoint.save(folder, task.modules, task.optimiser, state)


def _reason(task: Task, schedule: Schedule, history: History, max_seconds: float | None) -> str:
    """Tell why training is over, or return an empty string."""
    if len(history.rows) >= schedule.epochs:
        return "epochs"
    if schedule.finished(task.optimiser.param_groups[0]["lr"]):
        return "rate"
    return "time" if max_seconds is not None and history.seconds >= max_seconds else ""


def _epoch(task: Task, schedule: Schedule, number: int, seed: int, plateau: ReduceLROnPlateau, display: Display) -> Row:
    """Train one epoch, validate when it is due, let the rate fall if it must, and return the row of the history."""
    start = time.monotonic()
    rates = {str(group.get("name", i)): group["lr"] for i, group in enumerate(task.optimiser.param_groups)}
    sums: dict[str, float] = defaultdict(float)
    for batch, indices in enumerate(epoch_order(task.size, seed, number).split(schedule.batch_size), start=1):
        values = task.step(indices)
        if not math.isfinite(values["loss"]):
            raise TrainingError(_diverged(values, number, batch))
        for name, value in values.items():
            sums[name] += value * len(indices)
        display.step(values)
    per_step = (time.monotonic() - start) / schedule.batches(task.size)
    training = {name: total / task.size for name, total in sums.items()}
    validation = {}
    if number % schedule.validate_every == 0:
        validation = task.validate()
        plateau.step(validation.get("loss", training["loss"]))
    display.epoch(number, training, validation)
    columns = {"train": training, "validation": validation, "rate": rates}
    named = {f"{column}/{name}": value for column, values in columns.items() for name, value in values.items()}
    return {"epoch": number, **named, "seconds": time.monotonic() - start, "seconds_per_step": per_step}


def _diverged(values: Mapping[str, float], epoch: int, step: int) -> str:
    """Say which parts of a loss are not finite, and what to do; before the first step it can be nothing that was learned."""
    parts = [name for name, value in values.items() if name != "loss" and not math.isfinite(value)]
    found = f"In epoch {epoch}, step {step}, the loss is not finite: {describe(values)}."
    if parts:
        found += f" Of its parts not finite: {', '.join(parts)}."
    if (epoch, step) != (1, 1):
        return f"{found} {CURES}"
    causes = [cause for part, cause in AT_FIRST.items() if part in parts]
    likely = (
        "; ".join(causes) if causes else "values of the training items, or weights to start from, that are not finite"
    )
    return f"{found} {UNTRAINED} Likely causes: {likely}."
