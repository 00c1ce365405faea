"""What reaches TensorBoard."""

import os
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pyro_dwp.errors import WriteError
from pyro_dwp.train import Logbook
from tests.helpers.full_disk import file_size_limit
from tests.helpers.refusal import refuses


def read(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def test_scalars_are_read_back_and_a_resumed_run_hides_the_epochs_that_it_repeats(tmp_path: Path) -> None:
    logbook = Logbook(tmp_path)
    assert list(tmp_path.iterdir()) == []
    for epoch in (1, 2, 3):
        logbook.scalars(epoch, {"epoch": epoch, "loss": 10.0})
    resumed = Logbook(tmp_path)
    resumed.start(3)
    resumed.scalars(3, {"loss": 20.0})
    events = read(tmp_path)
    assert events.Tags()["scalars"] == ["loss"]
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 10.0), (2, 10.0), (3, 20.0)]


def test_scores_and_settings_are_read_back_and_a_score_that_no_case_has_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("seed: 3\n")
    Logbook(tmp_path, tmp_path / "config.yaml").scores(12, "test", {"dice": 0.5, "dice_2": None})
    events = read(tmp_path)
    assert events.Tags()["scalars"] == ["test/dice"]
    assert [(event.step, event.value) for event in events.Scalars("test/dice")] == [(12, 0.5)]
    (text,) = events.Tensors("settings/text_summary")
    assert text.tensor_proto.string_val == [b"    seed: 3\n"]


@pytest.mark.skipif(os.name != "posix", reason="limits of POSIX")
def test_an_entry_for_which_there_is_no_space_is_left_out_whole_and_the_file_is_named(tmp_path: Path) -> None:
    logbook = Logbook(tmp_path)
    logbook.scalars(1, {"loss": 1.0})
    before = logbook.path.read_bytes()
    with file_size_limit(len(before) + 10), refuses(str(logbook.path), "space", error=WriteError):
        logbook.scalars(2, {"loss": 2.0})
    assert logbook.path.read_bytes() == before
    logbook.scalars(2, {"loss": 2.0})
    assert [event.step for event in read(tmp_path).Scalars("loss")] == [1, 2]
