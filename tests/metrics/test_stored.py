"""metrics.json of a run, read again."""

import copy
from pathlib import Path

import pytest

from pyro_dwp.files import write_json
from pyro_dwp.metrics.stored import read_metrics
from tests.helpers.refusal import refuses

FOUND = {
    "test": {"mean": {"dice": 0.5}, "std": {"dice": None}, "cases": {"a": {"dice": 0.5, "predicted_dice": 0.6, "hd95": None}}},
    "temperature": 1.2,
    "calibration": {"core": {"probability": [0.1, 0.9], "frequency": [0.0, 1.0], "voxels": [7, 3]}},
    "review": [{"case": "a", "predicted_dice": 0.6, "slices": [{"axis": "foot-head", "index": 3, "wrong_ml": 0.2}]}],
    "validity": {"predicted_dice": {"rank_correlation": None, "low": None, "high": None, "cases": 1}},
    "elbo": {"train/loss": 3.0},
}  # fmt: skip


def test_what_a_run_wrote_is_read_and_what_is_not_used_is_left_aside(tmp_path: Path) -> None:
    write_json(tmp_path / "metrics.json", FOUND)
    found = read_metrics(tmp_path, "Score it.")
    assert found.scored.cases == FOUND["test"]["cases"]
    assert found.review[0].slices[0].index == 3
    assert found.model_dump(exclude_unset=True) == {name: value for name, value in FOUND.items() if name != "elbo"}


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("test", "cases", "a", "dice"), 1.5, "dice lies from 0 to 1"),
        (("test", "cases", "a"), [], "test.cases.a"),
        (("calibration", "core", "voxels"), [7], "as many entries"),
        (("review", 0, "slices", 0, "index"), "3", "review.0.slices.0.index"),
        (("validity", "predicted_dice", "rank_correlation"), -2.0, "validity.predicted_dice.rank_correlation"),
        (("temperature",), 0, "temperature"),
    ],
)
def test_what_no_run_writes_is_refused_by_its_place_in_the_file(tmp_path: Path, path, value, named) -> None:
    changed = copy.deepcopy(FOUND)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    write_json(tmp_path / "metrics.json", changed)
    with refuses(str(tmp_path / "metrics.json"), named, "Score it."):
        read_metrics(tmp_path, "Score it.")
