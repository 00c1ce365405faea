"""Tables of cases: means, spreads, and what is written."""

import csv
import io
import json
import math
from pathlib import Path

import pytest
import torch

from pyro_dwp.errors import DataError
from pyro_dwp.metrics import CaseTable, dice, iou, score_case


@pytest.fixture
def table() -> CaseTable:
    return CaseTable(
        {"a": {"dice": 0.5, "iou": 0.25}, "b": {"dice": 0.75, "iou": 0.5}, "mean": {"dice": 1, "iou": 0.75}}
    )


def test_mean_and_standard_deviation_are_those_of_the_cases(table: CaseTable) -> None:
    assert table.mean() == {"dice": 0.75, "iou": 0.5}
    assert table.std() == pytest.approx({"dice": 0.25, "iou": 0.25})


def test_one_case_has_no_standard_deviation() -> None:
    assert CaseTable({"a": {"dice": 0.5}}).std() == {"dice": None}


def test_a_table_survives_strict_json(table: CaseTable) -> None:
    for original in (table, CaseTable({"a": {"dice": 0.5}}), CaseTable()):
        read = json.loads(json.dumps(original.to_dict(), allow_nan=False))
        assert read == original.to_dict()
        assert CaseTable(read["cases"]).to_dict() == original.to_dict()


def test_csv_holds_every_case_and_the_two_summaries(table: CaseTable) -> None:
    rows = list(csv.reader(io.StringIO(table.to_csv())))
    assert rows[0] == ["case", "dice", "iou"]
    assert [row[0] for row in rows[1:]] == ["a", "b", "mean", "mean", "std"]
    assert [float(row[1]) for row in rows[1:]] == [0.5, 0.75, 1.0, 0.75, 0.25]


def test_text_is_aligned_and_marks_an_unknown_spread() -> None:
    text = CaseTable({"a_long_name": {"dice": 0.5, "iou": 1 / 3}}).to_text()
    assert len({len(line) for line in text.splitlines()}) == 1
    assert "0.3333" in text
    assert text.splitlines()[-1].split() == ["std", "-", "-"]


def test_a_case_is_added_once(table: CaseTable) -> None:
    with pytest.raises(DataError, match="'a' was added twice"):
        table.add("a", {"dice": 0.5, "iou": 0.25})


def test_cases_have_the_same_scores(table: CaseTable) -> None:
    with pytest.raises(DataError, match=r"dice, iou.*'c' has dice"):
        table.add("c", {"dice": 0.5})


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_score_is_finite(table: CaseTable, value: float) -> None:
    with pytest.raises(DataError, match="'c' has iou="):
        table.add("c", {"dice": 0.5, "iou": value})


def test_scores_of_several_classes_are_averaged_and_listed() -> None:
    prediction, truth = torch.randint(0, 3, (2, 4, 4, 4), generator=torch.Generator().manual_seed(0))
    scores = score_case(prediction, truth, classes=3)
    assert list(scores) == ["dice", "dice_1", "dice_2", "iou", "iou_1", "iou_2"]
    assert scores["dice"] == pytest.approx(float(dice(prediction, truth, 3).mean()))
    assert scores["iou_2"] == float(iou(prediction, truth, 3)[1])


def test_probabilities_add_the_proper_scores() -> None:
    truth = torch.zeros(2, 2, 2, dtype=torch.int64)
    scores = score_case(truth, truth, 2, probability=torch.full((2, 2, 2, 2), 0.5))
    assert scores == pytest.approx(
        {"dice": 1, "iou": 1, "negative_log_likelihood": math.log(2), "brier": 0.5, "calibration_error": 0.5}
    )


def test_a_saved_table_is_a_json_and_a_csv_file_and_nothing_else(table: CaseTable, tmp_path: Path) -> None:
    paths = table.save(tmp_path / "new" / "folder")
    assert [path.name for path in paths] == ["scores.json", "scores.csv"]
    assert sorted(paths) == sorted((tmp_path / "new" / "folder").iterdir())
    assert json.loads(paths[0].read_text()) == table.to_dict()
    assert paths[1].read_text() == table.to_csv()


def test_a_table_that_cannot_be_saved_says_where(table: CaseTable, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file.scores\.json cannot be written"):
        table.save(tmp_path / "file")
