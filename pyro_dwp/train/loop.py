"""The loop of every training in the library: source networks, kernel priors, and SVI on the target.

What is trained is a `Task`; the loop decides the order of the items, lowers the learning rate, keeps history and checkpoints,
and stops. A run that is killed at any moment and resumed takes the same steps, bit for bit on a CPU, as an uninterrupted one:
the order of an epoch depends on (seed, epoch) alone, and a checkpoint holds weights, optimiser, rate rule and torch's random
numbers as they were at the end of an epoch. Several processes may share the steps of a run, see `ranks.py`.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from pydantic import BaseModel
from torch import Tensor, nn
from torch.optim import Optimizer

from pyro_dwp.errors import CheckpointError, ConfigError, Interrupted, TrainingError
from pyro_dwp.files import check_header
from pyro_dwp.train import checkpoint
from pyro_dwp.train.history import FILE as HISTORY
from pyro_dwp.train.history import History, Row
from pyro_dwp.train.nonfinite import CURES
from pyro_dwp.train.progress import Display
from pyro_dwp.train.ranks import Ranks
from pyro_dwp.train.schedule import RateRule, Schedule
from pyro_dwp.train.step_values import StepValues

RULE_STATE = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch", "_last_lr")


class State(BaseModel):
    """What a checkpoint of `fit` holds besides modules, optimiser and random numbers."""

    epoch: int
    seed: int
    rows: list[Row]
    rule: dict[str, Any]


class Task(Protocol):
    """What `fit` trains.

    Everything that changes from step to step must be in `modules` (a step counter as a buffer) or in `optimiser`, and all
    randomness must come from torch's global generator; anything else is lost when a run is resumed.

    Attributes:
        size: number of training items.
        modules: name → module to keep in the checkpoint.
        optimiser: the torch optimiser, whose rates the schedule lowers.
    """

    size: int
    modules: dict[str, nn.Module]
    optimiser: Optimizer

    def step(self, indices: Tensor) -> Mapping[str, float | Tensor]:
        """Take one optimisation step on the items of these indices, (B,) int64; return "loss" and its parts.

        Tensors, (), on a GPU are read when the epoch is over, so that no step waits for the one before.
        """
        ...

    def validate(self) -> dict[str, float]:
        """Return the validation's "loss", which drives the rate, and other scores; {} if there is none."""
        ...


class Writer(Protocol):
    """Where `fit` also sends the values of each epoch, such as a `Logbook`."""

    def start(self, epoch: int) -> None:
        """Forget what was written for this epoch and later ones."""
        ...

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write named values of an epoch.

        Args:
            step: the epoch, from 1.
            values: name → value.
        """
        ...


def fit(
    task: Task,
    schedule: Schedule,
    folder: Path,
    seed: int,
    resume: bool,
    writer: Writer | None = None,
    progress: bool = True,
    ranks: Ranks | None = None,
    verbose: bool = False,
) -> History:
    """Train a task, always leaving a checkpoint from which `resume` continues exactly.

    The weights at the end are the last ones, not those of the best validation.

    Args:
        task: what to train; its modules and optimiser are changed in place.
        schedule: length, batch size, rate rule, and how often to validate and to keep a checkpoint.
        folder: of the run; the checkpoint goes to `checkpoint/` in it, the history beside it to `history.json`.
        seed: of the order of the items; the caller seeds torch's global generator.
        resume: continue from the checkpoint in `folder`; begin if there is none yet.
        writer: receives each epoch's values.
        progress: show them on standard output.
        ranks: processes that share each step, and that the task's optimiser averages the gradient over.
        verbose: show the parts of the loss, such as data term and KL divergence, too.

    Returns:
        The history from the first epoch on, even of a resumed run.

    Raises:
        CheckpointError: if `folder` already holds a checkpoint and `resume` is False, or it belongs to another task.
        ConfigError: if the task has no items.
        TrainingError: if the loss, or a weight, is no longer a finite number, or another rank has ended; the last checkpoint is
            intact.
        Interrupted: on Ctrl-C, or another signal to stop; the last checkpoint is intact.
    """
    if task.size < 1:
        raise ConfigError("Training needs at least one item, but the task has none.")
    ranks = ranks or Ranks()
    schedule = replace(schedule, batch_size=schedule.batch_size * ranks.count)
    rule, length = schedule.rule(task.optimiser, task.size), schedule.length(task.size)
    history = _begin(task, folder, seed, resume, rule, ranks)
    writer = writer if ranks.is_first else None
    if history.rows and writer is not None:
        writer.start(len(history.rows) + 1)
    try:
        with Display(
            length, schedule.batches(task.size), history.rows, progress and ranks.is_first, verbose
        ) as display:
            while not (stopped := _reason(task, schedule, history)):
                number = len(history.rows) + 1
                row = _epoch(task, schedule, number, seed, rule, ranks, display)
                history.rows.append(row)
                if writer is not None:
                    writer.scalars(number, row)
                if ranks.is_first and (number % schedule.checkpoint_every == 0 or _reason(task, schedule, history)):
                    _keep(task, folder, seed, history, rule)
                display.epoch()
            if stopped == "rate":
                display.say(f"Finished after epoch {len(history.rows)}: the loss falls no further.")
    except torch.linalg.LinAlgError as error:
        raise TrainingError(
            f"In epoch {len(history.rows) + 1}, a covariance is not finite, or not positive definite any more. {CURES}"
        ) from error
    except KeyboardInterrupt as interrupt:
        kept = (checkpoint.peek(folder) or {"epoch": 0})["epoch"]
        raise Interrupted(
            f"Stopped in epoch {len(history.rows) + 1}. The state after {kept} epoch(s) is kept in "
            f"{Path(folder) / checkpoint.FILE}; run the same command with --resume (and without --overwrite) to continue."
        ) from interrupt
    history.stopped = stopped
    if ranks.is_first:
        history.write(Path(folder) / HISTORY)
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


def _begin(task: Task, folder: Path, seed: int, resume: bool, rule: RateRule, ranks: Ranks) -> History:
    """Restore the last checkpoint, or write the first, so that from now on there always is one."""
    found = ranks.from_first(lambda: checkpoint.peek(folder))
    states = [module.state_dict() for module in task.modules.values()]
    ranks.copy_first([value for state in states for value in state.values() if isinstance(value, Tensor)])
    if found is None:
        history = History()
        if ranks.is_first:
            _keep(task, folder, seed, history, rule)
        return history
    path = Path(folder) / checkpoint.FILE
    if not resume:
        raise CheckpointError(f"{path} already holds a training. Continue it with --resume, or choose another --name.")
    state = check_header(State, found, f"The header of {path}", checkpoint.DAMAGED)
    if state.seed != seed:
        raise CheckpointError(f"{path} was trained with seed {state.seed}, not {seed}. Resume with its own seed.")
    checkpoint.load(folder, task.modules, task.optimiser)
    rule.load_state_dict(rule.state_dict() | state.rule)  # a cosine also wants its functions back
    return History(rows=found["rows"])


def _keep(task: Task, folder: Path, seed: int, history: History, rule: RateRule) -> None:
    """Write checkpoint and history, unless a weight is not finite: then the former checkpoint stays."""
    for name, module in task.modules.items():
        for key, value in module.state_dict().items():
            if isinstance(value, Tensor) and not torch.isfinite(value).all():
                raise TrainingError(
                    f"After epoch {len(history.rows)}, {key!r} of {name} holds values that are not finite, so no checkpoint was "
                    f"written. {CURES}"
                )
    scheduler = {key: value for key, value in rule.state_dict().items() if key in RULE_STATE}
    state = {"epoch": len(history.rows), "seed": seed, "rows": history.rows, "rule": scheduler}
    checkpoint.save(folder, task.modules, task.optimiser, state)
    history.write(Path(folder) / HISTORY)


def _reason(task: Task, schedule: Schedule, history: History) -> str:
    """Return why training is over, or an empty string."""
    if len(history.rows) >= schedule.length(task.size):
        return "epochs"
    return "rate" if schedule.finished(task.optimiser.param_groups[0]["lr"]) else ""


def _epoch(
    task: Task, schedule: Schedule, number: int, seed: int, rule: RateRule, ranks: Ranks, display: Display
) -> Row:
    """Train one epoch, validate if it is due, lower the rate if needed, and return the row of the history."""
    start = time.monotonic()
    rates = {str(group.get("name", i)): group["lr"] for i, group in enumerate(task.optimiser.param_groups)}
    steps = StepValues(number)
    ranks.seed(seed, number)
    for indices in epoch_order(task.size, seed, number).split(schedule.batch_size):
        values = task.step(ranks.share(indices))
        steps.add(values, ranks.weight * len(indices))
        display.step()
    sums = steps.sums()
    per_step = (time.monotonic() - start) / schedule.batches(task.size)
    training = {name: total / task.size for name, total in ranks.total(sums).items()}
    due = schedule.validates(number)
    validation = ranks.from_first(task.validate) if due else {}
    schedule.advance(rule, validation.get("loss", training["loss"]) if due else None)
    columns = {"train": training, "validation": validation, "rate": rates}
    named = {f"{column}/{name}": value for column, values in columns.items() for name, value in values.items()}
    return {"epoch": number, **named, "seconds": time.monotonic() - start, "seconds_per_step": per_step}
