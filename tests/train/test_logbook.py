"""What reaches TensorBoard."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pyro_dwp.train import Logbook
from pyro_dwp.train.logbook import PREDICTION, TRUTH, overlay


def read(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def test_scalars_are_read_back_under_their_names(tmp_path: Path) -> None:
    with Logbook(tmp_path) as logbook:
        logbook.scalars(1, {"epoch": 1, "train/loss": 2.5})
        logbook.scalars(1, {"dice": 0.5}, prefix="test")
    assert sorted(read(tmp_path).Tags()["scalars"]) == ["test/dice", "train/loss"]
    assert read(tmp_path).Scalars("train/loss")[0].value == 2.5


def test_a_resumed_run_hides_the_epochs_that_it_repeats(tmp_path: Path) -> None:
    with Logbook(tmp_path) as logbook:
        for epoch in (1, 2, 3):
            logbook.scalars(epoch, {"loss": 10.0})
    with Logbook(tmp_path) as logbook:
        logbook.start(3)
        logbook.scalars(3, {"loss": 20.0})
    assert [(event.step, event.value) for event in read(tmp_path).Scalars("loss")] == [(1, 10.0), (2, 10.0), (3, 20.0)]


def test_nothing_is_written_before_the_first_entry(tmp_path: Path) -> None:
    Logbook(tmp_path).close()
    assert list(tmp_path.iterdir()) == []


def test_slices_become_pictures(tmp_path: Path) -> None:
    with Logbook(tmp_path) as logbook:
        logbook.slices(1, "case", torch.rand(1, 6, 7, 8))
    assert read(tmp_path).Images("case")[0].width == 6


def test_the_slice_with_most_foreground_is_shown_with_both_outlines() -> None:
    truth, prediction = torch.zeros(9, 9, 5, dtype=torch.int64), torch.zeros(9, 9, 5, dtype=torch.int64)
    truth[1:4, 1:4, 3] = 1
    prediction[5:8, 5:8, 3] = 1
    picture = np.rot90(overlay(torch.rand(1, 9, 9, 5), truth, prediction), -1)
    assert tuple(picture[1, 1]) == TRUTH
    assert tuple(picture[5, 5]) == PREDICTION
    assert len(set(picture[2, 2])) == 1  # inside the outline the scan stays visible


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_a_constant_image_is_no_error(value: float) -> None:
    assert overlay(torch.full((1, 4, 5, 6), value)).shape == (5, 4, 3)
