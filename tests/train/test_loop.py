"""`fit`: exact resumption after a kill, Ctrl-C, broken losses, the rate rule and what is kept."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pyro_dwp.errors import CheckpointError, ConfigError, Interrupted, TrainingError
from pyro_dwp.train import History, Logbook, Schedule, fit
from pyro_dwp.train.checkpoint import FILE, peek
from pyro_dwp.train.loop import epoch_order

SCRIPT = Path(__file__).with_name("tiny_run.py")
_spec = importlib.util.spec_from_file_location("tiny_run", SCRIPT)
tiny = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny)

STEPS_PER_EPOCH = 3


def without_time(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if not name.startswith("seconds")} for row in rows]


def assert_same_end(folder: Path, other: Path) -> None:
    ours, theirs = load_file(folder / FILE), load_file(other / FILE)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    state, expected = peek(folder), peek(other)
    assert without_time(state.pop("rows")) == without_time(expected.pop("rows"))
    assert state == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the killed runs are forked, which this system cannot")
def test_a_run_killed_again_and_again_ends_bit_identical_to_one_that_was_not(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), str(tmp_path / "killed"), "0", "8"]
    done = subprocess.run(command, capture_output=True, text=True)
    statuses = [int(status) for status in done.stdout.split()]
    assert statuses.count(-signal.SIGKILL) >= 4, done.stderr
    assert statuses[-1] == 0, done.stderr
    tiny.run(tmp_path / "whole", resume=False)
    assert_same_end(tmp_path / "killed", tmp_path / "whole")


def test_a_schedule_that_grows_goes_on_as_if_it_had_always_been_long(tmp_path: Path) -> None:
    tiny.run(tmp_path / "whole", resume=False)
    tiny.run(tmp_path / "grown", resume=False, schedule=replace(tiny.SCHEDULE, epochs=4))
    tiny.run(tmp_path / "grown", resume=True)
    assert_same_end(tmp_path / "grown", tmp_path / "whole")


def test_a_finished_run_resumed_changes_nothing(tmp_path: Path) -> None:
    before = tiny.run(tmp_path, resume=False)
    content = (tmp_path / FILE).read_bytes()
    assert tiny.run(tmp_path, resume=True) == before
    assert (tmp_path / FILE).read_bytes() == content


def test_resuming_where_nothing_was_kept_begins(tmp_path: Path) -> None:
    assert len(tiny.run(tmp_path, resume=True).rows) == tiny.SCHEDULE.epochs


def test_a_folder_with_a_checkpoint_is_not_trained_over(tmp_path: Path) -> None:
    tiny.run(tmp_path, resume=False)
    with pytest.raises(CheckpointError, match="--resume"):
        tiny.run(tmp_path, resume=False)


def test_another_seed_does_not_resume(tmp_path: Path) -> None:
    tiny.run(tmp_path, resume=False)
    with pytest.raises(CheckpointError, match="seed 5"):
        fit(tiny.TinyTask(), tiny.SCHEDULE, tmp_path, seed=6, resume=True, progress=False)


def test_ctrl_c_leaves_a_checkpoint_and_says_how_to_resume(tmp_path: Path) -> None:
    task = tiny.TinyTask()
    step, calls = task.step, iter(range(100))

    def interrupted(indices: torch.Tensor) -> dict[str, float]:
        if next(calls) == 5 * STEPS_PER_EPOCH + 1:
            signal.raise_signal(signal.SIGINT)
        return step(indices)

    task.step = interrupted
    with pytest.raises(Interrupted, match=r"in epoch 6.*after 4 epoch.*--resume"):
        tiny.run(tmp_path / "stopped", resume=False, task=task)
    tiny.run(tmp_path / "stopped", resume=True)
    tiny.run(tmp_path / "whole", resume=False)
    assert_same_end(tmp_path / "stopped", tmp_path / "whole")


def test_a_loss_that_is_no_number_names_step_parts_and_cure(tmp_path: Path) -> None:
    task = tiny.TinyTask()
    task.step = lambda indices: {"loss": float("nan"), "kl": 3.0}
    with pytest.raises(TrainingError, match=r"epoch 1, step 1.*loss nan  kl 3.*values of the training items"):
        tiny.run(tmp_path, resume=False, task=task)


@pytest.mark.parametrize(
    ("part", "cause", "other"),
    [("kl", "a prior whose support", "the scans"), ("data", "values of the scans", "support")],
)
def test_before_anything_is_trained_the_broken_part_is_named_and_not_the_rate(
    tmp_path: Path, part: str, cause: str, other: str
) -> None:
    task = tiny.TinyTask()
    task.step = lambda indices: {"loss": torch.inf, "data": -1.0, "kl": 3.0, part: torch.inf}
    with pytest.raises(TrainingError, match=f"Of its parts not finite: {part}\\. Nothing was trained yet") as error:
        tiny.run(tmp_path, resume=False, task=task)
    assert cause in str(error.value)
    assert other not in str(error.value)
    assert "lower" not in str(error.value)


@pytest.mark.parametrize(("finite", "place"), [(1, "epoch 1, step 2"), (STEPS_PER_EPOCH, "epoch 2, step 1")])
def test_after_the_first_step_a_lower_rate_is_a_cure(tmp_path: Path, finite: int, place: str) -> None:
    losses, task = iter([1.0] * finite + [torch.nan]), tiny.TinyTask()
    task.step = lambda indices: {"loss": next(losses)}
    with pytest.raises(
        TrainingError, match=rf"{place}, .*checkpoint of an earlier epoch.*lower schedule\.learning_rate"
    ):
        tiny.run(tmp_path, resume=False, task=task)


def test_broken_weights_do_not_replace_a_good_checkpoint(tmp_path: Path) -> None:
    task = tiny.TinyTask()

    def broken() -> dict[str, float]:
        with torch.no_grad():
            task.network.weight.fill_(torch.inf)
        return {}

    task.validate = broken
    with pytest.raises(TrainingError, match=r"'weight' of network"):
        tiny.run(tmp_path, resume=False, task=task)
    assert peek(tmp_path)["epoch"] == 0


def test_a_task_without_items_is_refused(tmp_path: Path) -> None:
    task = tiny.TinyTask()
    task.size = 0
    with pytest.raises(ConfigError, match="at least one item"):
        tiny.run(tmp_path, resume=False, task=task)


def test_the_order_depends_on_seed_and_epoch_alone_and_leaves_the_global_generator() -> None:
    state = torch.get_rng_state()
    first = epoch_order(50, 1, 1)
    assert torch.equal(first, epoch_order(50, 1, 1))
    assert torch.equal(state, torch.get_rng_state())
    assert sorted(first.tolist()) == list(range(50))
    assert not torch.equal(first, epoch_order(50, 1, 2))
    assert not torch.equal(first, epoch_order(50, 2, 1))


def test_training_values_are_means_over_the_items_whatever_the_batches(tmp_path: Path) -> None:
    task = tiny.TinyTask()
    task.step = lambda indices: {"loss": indices.double().mean().item()}
    history = tiny.run(tmp_path, resume=False, task=task)
    assert history.rows[0]["train/loss"] == pytest.approx(3.5)


def test_every_rate_falls_by_the_same_factor_on_a_plateau_and_training_stops_at_the_last(tmp_path: Path) -> None:
    task = tiny.TinyTask()
    task.validate = lambda: {"loss": 1.0}
    schedule = Schedule(epochs=100, learning_rate=1e-2, patience=2, stop_rate=1e-4)
    history = fit(task, schedule, tmp_path, seed=0, resume=False, progress=False)
    # The first validation is progress (from infinity); each fall then takes patience + 1 = 3 more.
    assert history.column("rate/theta") == pytest.approx([1e-2] * 4 + [1e-3] * 3)
    assert history.column("rate/psi") == pytest.approx([1e-3] * 4 + [1e-4] * 3)
    assert history.stopped == "rate"


def test_without_validation_the_training_loss_drives_the_rate(tmp_path: Path) -> None:
    task = tiny.TinyTask()
    task.step, task.validate = lambda indices: {"loss": 1.0}, dict
    schedule = Schedule(epochs=3, learning_rate=1e-2, patience=0)
    history = fit(task, schedule, tmp_path, seed=0, resume=False, progress=False)
    assert history.column("rate/theta") == pytest.approx([1e-2, 1e-2, 1e-3])


def test_training_stops_when_its_time_is_over_and_can_be_given_more(tmp_path: Path) -> None:
    stopped = fit(tiny.TinyTask(), tiny.SCHEDULE, tmp_path, 5, False, progress=False, max_seconds=0.0)
    assert (stopped.stopped, stopped.rows) == ("time", [])
    assert tiny.run(tmp_path, resume=True).stopped == "epochs"


def test_validation_is_as_rare_as_asked(tmp_path: Path) -> None:
    history = tiny.run(tmp_path, resume=False, schedule=replace(tiny.SCHEDULE, epochs=6, validate_every=3))
    assert [row["epoch"] for row in history.rows if "validation/dice" in row] == [3, 6]


def test_a_history_is_json(tmp_path: Path) -> None:
    history = tiny.run(tmp_path, resume=False, schedule=replace(tiny.SCHEDULE, epochs=2))
    assert History(json.loads(json.dumps(history.rows)), "epochs") == history


def test_a_resumed_logbook_hides_what_the_killed_run_wrote_after_its_checkpoint(tmp_path: Path) -> None:
    class Recorder:
        started, steps = 0, []

        def start(self, epoch: int) -> None:
            self.started = epoch

        def scalars(self, step: int, values: dict[str, float], prefix: str = "") -> None:
            self.steps.append(step)

    tiny.run(tmp_path, resume=False, schedule=replace(tiny.SCHEDULE, epochs=4))
    recorder = Recorder()
    fit(tiny.TinyTask(), replace(tiny.SCHEDULE, epochs=6), tmp_path, 5, True, writer=recorder, progress=False)
    assert (recorder.started, recorder.steps) == (5, [5, 6])


def test_progress_prints_first_and_last_epoch_where_there_is_no_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(tiny.TinyTask(), tiny.SCHEDULE, tmp_path, 5, False, writer=Logbook(tmp_path))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/12", "epoch 12/12"]
    assert "training: loss" in lines[-1]
    assert "dice 0.5  at most 0 s left" in lines[-1]
