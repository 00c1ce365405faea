"""`fit`: exact resumption after a kill, Ctrl-C, broken losses, the rate rule and what is kept."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from pyro_dwp.errors import CheckpointError, ConfigError, Interrupted, TrainingError
from pyro_dwp.files import read_tensors, write_tensors
from pyro_dwp.train import Schedule, fit
from pyro_dwp.train.checkpoint import FILE, KIND, peek
from pyro_dwp.train.loop import epoch_order
from tests.helpers import tiny_run as tiny
from tests.helpers.refusal import refuses

STEPS_PER_EPOCH = 3


def assert_same_end(*folders: Path) -> None:
    """Check that tensors, history but its times, and all other state of two runs are equal."""
    ours, theirs = (load_file(folder / FILE) for folder in folders)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    states = [peek(folder) for folder in folders]
    for state in states:
        state["rows"] = [{key: x for key, x in row.items() if not key.startswith("seconds")} for row in state["rows"]]
    assert states[0] == states[1]


def task(**replaced: object) -> tiny.TinyTask:
    """Return a task with these methods, or its size, replaced."""
    made = tiny.TinyTask()
    vars(made).update(replaced)
    return made


def short(epochs: int, **settings: object) -> Schedule:
    return replace(tiny.SCHEDULE, epochs=epochs, **settings)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the killed runs are forked, which this system cannot")
def test_a_run_killed_again_and_again_ends_bit_identical_to_one_that_was_not(tmp_path: Path) -> None:
    command = [sys.executable, tiny.__file__, str(tmp_path / "killed"), "0", "8"]
    done = subprocess.run(command, capture_output=True, text=True)
    statuses = [int(status) for status in done.stdout.split()]
    assert statuses.count(-signal.SIGKILL) >= 4, done.stderr
    assert statuses[-1] == 0, done.stderr
    tiny.run(tmp_path / "whole", resume=False)
    assert_same_end(tmp_path / "killed", tmp_path / "whole")


def test_a_schedule_that_grows_goes_on_as_if_it_had_always_been_long_and_a_finished_run_changes_nothing(tmp_path):
    before = tiny.run(tmp_path / "whole", resume=True)  # where nothing was kept, it begins
    tiny.run(tmp_path / "grown", resume=False, schedule=short(4))
    tiny.run(tmp_path / "grown", resume=True)
    assert_same_end(tmp_path / "grown", tmp_path / "whole")
    content = (tmp_path / "whole" / FILE).read_bytes()
    assert tiny.run(tmp_path / "whole", resume=True) == before
    assert (tmp_path / "whole" / FILE).read_bytes() == content


def test_a_folder_with_a_checkpoint_another_seed_and_a_task_without_items_are_refused(tmp_path: Path) -> None:
    tiny.run(tmp_path, resume=False, schedule=short(1))
    with refuses("--resume", error=CheckpointError):
        tiny.run(tmp_path, resume=False)
    with refuses("seed 5", error=CheckpointError):
        fit(task(), tiny.SCHEDULE, tmp_path, seed=6, resume=True, progress=False)
    with refuses("at least one item", error=ConfigError):
        tiny.run(tmp_path / "none", resume=False, task=task(size=0))


@pytest.mark.parametrize("decay", ["plateau", "cosine"])
def test_ctrl_c_leaves_a_checkpoint_and_says_how_to_resume(tmp_path: Path, decay: str) -> None:
    schedule = short(12, decay=decay)
    stopped, calls = tiny.TinyTask(), iter(range(100))

    def interrupted(indices: torch.Tensor) -> dict[str, float]:
        if next(calls) == 5 * STEPS_PER_EPOCH + 1:
            signal.raise_signal(signal.SIGINT)
        return tiny.TinyTask.step(stopped, indices)

    stopped.step = interrupted
    with refuses("epoch 6", "after 4 epoch", "--resume", error=Interrupted):
        tiny.run(tmp_path / "stopped", resume=False, task=stopped, schedule=schedule)
    tiny.run(tmp_path / "stopped", resume=True, schedule=schedule)
    tiny.run(tmp_path / "whole", resume=False, schedule=schedule)
    assert_same_end(tmp_path / "stopped", tmp_path / "whole")


@pytest.mark.parametrize(("part", "cause", "other"), [("kl", "support", "the scans"), ("data", "the scans", "support")])
def test_before_anything_is_trained_the_broken_part_is_named_and_not_the_rate(tmp_path, part, cause, other):
    broken = task(step=lambda indices: {"loss": torch.inf, "data": -1.0, "kl": 3.0, part: torch.inf})
    with pytest.raises(TrainingError, match=rf"not finite: {part}\..*{cause}") as error:
        tiny.run(tmp_path, resume=False, task=broken)
    assert other not in str(error.value)
    assert "lower" not in str(error.value)


RATE = ["checkpoint", "schedule.learning_rate"]


@pytest.mark.parametrize(
    ("finite", "tokens"),
    [
        (0, ["epoch 1, step 1", "loss nan  kl 3", "items"]),
        (1, ["epoch 1, step 2", *RATE]),
        (STEPS_PER_EPOCH, ["epoch 2, step 1", *RATE]),
    ],
)
def test_a_loss_that_is_no_number_names_step_and_parts_and_after_the_first_step_a_lower_rate(tmp_path, finite, tokens):
    losses = iter([1.0] * finite + [torch.nan])
    with refuses(*tokens, error=TrainingError):
        tiny.run(tmp_path, resume=False, task=task(step=lambda indices: {"loss": next(losses), "kl": 3.0}))


def test_a_covariance_that_breaks_down_is_one_line_with_cures(tmp_path: Path) -> None:
    def broken(indices: torch.Tensor) -> dict[str, float]:
        try:
            torch.linalg.cholesky(torch.full((2, 2), torch.nan))
        except torch.linalg.LinAlgError as error:
            raise torch.linalg.LinAlgError(f"{error}\n Trace Shapes:") from error  # as Pyro adds to it
        return {"loss": 0.0}

    with refuses("epoch 1", "covariance", *RATE, error=TrainingError):
        tiny.run(tmp_path, resume=False, task=task(step=broken))


def test_broken_weights_do_not_replace_a_good_checkpoint(tmp_path: Path) -> None:
    def broken() -> dict[str, float]:
        nn.init.constant_(trained.network.weight, torch.inf)
        return {}

    trained = task(validate=broken)
    with refuses("'weight' of network", error=TrainingError):
        tiny.run(tmp_path, resume=False, task=trained)
    assert peek(tmp_path)["epoch"] == 0


def test_the_order_depends_on_seed_and_epoch_alone_and_leaves_the_global_generator() -> None:
    state = torch.get_rng_state()
    first = epoch_order(50, 1, 1)
    assert torch.equal(first, epoch_order(50, 1, 1))
    assert torch.equal(state, torch.get_rng_state())
    assert sorted(first.tolist()) == list(range(50))
    assert not torch.equal(first, epoch_order(50, 1, 2))
    assert not torch.equal(first, epoch_order(50, 2, 1))


def test_training_values_are_means_over_the_items_and_validation_is_as_rare_as_asked(tmp_path: Path) -> None:
    counting = task(step=lambda indices: {"loss": indices.double().mean().item()})
    history = tiny.run(tmp_path, resume=False, task=counting, schedule=short(6, validate_every=3))
    assert history.column("train/loss") == pytest.approx([3.5] * 6)
    assert [row["epoch"] for row in history.rows if "validation/dice" in row] == [3, 6]


@pytest.mark.parametrize(
    "methods",
    [{"validate": lambda: {"loss": 1.0}}, {"validate": dict, "step": lambda indices: {"loss": 1.0}}],
    ids=["validation", "training loss, without validation"],
)
def test_every_rate_falls_by_the_same_factor_on_a_plateau_and_training_stops_at_the_last(tmp_path, methods):
    schedule = Schedule(epochs=100, learning_rate=1e-2, patience=2, stop_rate=1e-4)
    history = tiny.run(tmp_path, False, task(**methods), schedule)
    # The first loss is progress (from infinity); each fall then takes patience + 1 = 3 more.
    assert history.column("rate/posterior") == pytest.approx([1e-2] * 4 + [1e-3] * 3)
    assert history.column("rate/encoders") == pytest.approx([1e-3] * 4 + [1e-4] * 3)
    assert history.stopped == "rate"


def test_the_history_is_written_as_json_with_each_checkpoint_and_at_the_end(tmp_path: Path) -> None:
    path, found = tmp_path / "history.json", []

    def looking() -> dict[str, float]:
        found.append(json.loads(path.read_text()))
        return {"loss": 1.0, "dice": torch.nan}

    history = tiny.run(tmp_path, resume=False, task=task(validate=looking), schedule=short(3))
    assert [len(each["rows"]) for each in found] == [0, 0, 2]  # a checkpoint every second epoch
    assert {each["stopped"] for each in found} == {""}
    rows = [{**row, "validation/dice": None} for row in history.rows]
    assert json.loads(path.read_text()) == {"rows": rows, "stopped": "epochs"}
    path.unlink()
    assert tiny.run(tmp_path, resume=True, schedule=short(3)).stopped == "epochs"
    assert json.loads(path.read_text())["rows"] == rows


@pytest.mark.parametrize(
    ("key", "value"),
    [("seed", "5"), ("rows", 3), ("rows", [3]), ("rows", [{"epoch": "1"}]), ("rule", None), ("epoch", 1.5)],
)
def test_a_state_of_another_type_does_not_resume(tmp_path: Path, key: str, value: object) -> None:
    tiny.run(tmp_path, resume=False, schedule=short(1))
    tensors, header = read_tensors(tmp_path / FILE, KIND, "")
    header["state"][key] = value
    write_tensors(tmp_path / FILE, KIND, tensors, header)
    with refuses(f"last.safetensors: {key}", "--overwrite", error=CheckpointError):
        tiny.run(tmp_path, resume=True)


def test_a_resumed_logbook_hides_what_the_killed_run_wrote_after_its_checkpoint(tmp_path: Path) -> None:
    tiny.run(tmp_path, resume=False, schedule=short(4))
    recorder = Mock()
    fit(task(), short(6), tmp_path, 5, True, writer=recorder, progress=False)
    recorder.start.assert_called_once_with(5)
    assert [call.args[0] for call in recorder.scalars.call_args_list] == [5, 6]
