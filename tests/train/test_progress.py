"""What a training shows: a line that a radiologist reads, the parts on request, and a time left that no long pause spoils."""

from pathlib import Path

import pytest
from rich.console import Console

from pyro_dwp.train import fit, pace
from pyro_dwp.train.pace import Pace
from pyro_dwp.train.progress import progress
from tests.helpers import tiny_run as tiny


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the clock shows, in a list of one."""
    now = [0.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    return now


def lines(capsys: pytest.CaptureFixture[str], folder: Path, verbose: bool = False) -> list[str]:
    fit(tiny.TinyTask(), tiny.SCHEDULE, folder, 5, False, verbose=verbose)
    return capsys.readouterr().out.splitlines()


def test_where_there_is_no_terminal_first_and_last_epoch_are_a_line_each(tmp_path, capsys):
    found = lines(capsys, tmp_path)
    assert [line.split("  ")[0] for line in found] == ["epoch 1/12", "epoch 12/12"]
    assert "validation Dice 0.50 (best 0.50, epoch 1)  about " in found[0]
    assert "fitted" not in "".join(found)


def test_the_parts_of_the_loss_are_shown_on_request(tmp_path, capsys):
    assert all("  fitted " in line for line in lines(capsys, tmp_path, verbose=True))


def test_in_a_terminal_the_same_words_are_in_the_bar(tmp_path, monkeypatch, capsys):
    terminal = Console(force_terminal=True, width=200)
    monkeypatch.setattr("pyro_dwp.train.progress.Console", lambda: terminal)
    fit(tiny.TinyTask(), tiny.SCHEDULE, tmp_path, 5, False)
    shown = capsys.readouterr().out
    assert "epoch 12/12" in shown
    assert "validation Dice 0.50 (best 0.50, epoch 1)" in shown


def test_the_best_dice_is_the_largest_and_the_best_loss_the_smallest():
    rows = [{"epoch": n, "train/loss": 1.0, "validation/loss": x} for n, x in enumerate((3.0, 1.0, 2.0), start=1)]
    assert "validation loss 2 (best 1, epoch 2)" in progress(rows)
    assert "validation Dice 2.00 (best 3.00, epoch 1)" in progress(
        [row | {"validation/dice": row["validation/loss"]} for row in rows]
    )


def test_the_time_left_is_exact_for_steady_steps_and_rare_validations(clock):
    """10 epochs of 4 steps of 2 s; every second ends with a validation of 6 s: 5 × (8 + 6 + 8) s are left after the half."""
    steady = Pace(epochs=20, batches=4)
    for epoch in range(10):
        for _ in range(4):
            clock[0] += 2
            steady.step()
        clock[0] += 6 * (epoch % 2)
        steady.epoch(validated=epoch % 2 == 1)
    assert steady.left() == pytest.approx(10 * 8 + 5 * 6)


@pytest.mark.parametrize("moment", ["in a step", "between epochs"])
def test_hours_in_which_the_machine_slept_do_not_count_in_the_time_left(clock, moment):
    slept = Pace(epochs=10, batches=3)
    for epoch in range(3):
        for step in range(3):
            clock[0] += 1 + 36_000 * (moment == "in a step" and epoch == step == 1)
            slept.step()
        clock[0] += 36_000 * (moment == "between epochs" and epoch == 1)
        slept.epoch(validated=False)
    assert slept.left() == pytest.approx(7 * 3)
