"""What reaches TensorBoard."""

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pyro_dwp.train import Logbook


def test_scalars_are_read_back_and_a_resumed_run_hides_the_epochs_that_it_repeats(tmp_path: Path) -> None:
    with Logbook(tmp_path) as logbook:
        assert list(tmp_path.iterdir()) == []
        for epoch in (1, 2, 3):
            logbook.scalars(epoch, {"epoch": epoch, "loss": 10.0})
    with Logbook(tmp_path) as logbook:
        logbook.start(3)
        logbook.scalars(3, {"loss": 20.0})
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert events.Tags()["scalars"] == ["loss"]
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 10.0), (2, 10.0), (3, 20.0)]
