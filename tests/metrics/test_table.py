"""Tables of cases: means, spreads, and what is written."""

import csv
import io
import json
import math
from pathlib import Path

import pytest
import torch

from pyro_dwp.metrics import CaseTable, dice, iou, score_case
from tests.helpers.refusal import refuses


@pytest.fixture
def table() -> CaseTable:
    rows = {"a": (0.5, 0.25, None), "b": (0.75, 0.5, 0.5), "mean": (1, 0.75, None)}
    return CaseTable({name: dict(zip(("dice", "iou", "dice_2"), row, strict=True)) for name, row in rows.items()})


def test_mean_and_standard_deviation_are_those_of_the_cases_that_have_the_score(table: CaseTable) -> None:
    assert table.mean() == {"dice": 0.75, "iou": 0.5, "dice_2": 0.5}
    assert table.std() == {"dice": pytest.approx(0.25), "iou": pytest.approx(0.25), "dice_2": None}
    assert CaseTable({"a": {"dice": 0.5, "dice_1": None}}).std() == {"dice": None, "dice_1": None}
    assert CaseTable({"a": {"dice_1": None}}).mean() == {"dice_1": None}


def test_csv_holds_every_case_and_the_two_summaries(table: CaseTable) -> None:
    rows = list(csv.reader(io.StringIO(table.to_csv())))
    assert rows[0] == ["case", "dice", "iou", "dice_2"]
    assert [row[0] for row in rows[1:]] == ["a", "b", "mean", "mean", "std"]
    assert [float(row[1]) for row in rows[1:]] == [0.5, 0.75, 1.0, 0.75, 0.25]
    assert [row[3] for row in rows[1:]] == ["", "0.5", "", "0.5", ""]


def test_text_is_aligned_and_marks_what_is_missing() -> None:
    lines = CaseTable({"a_long_name": {"dice": 0.5, "dice_1": None, "iou": 1 / 3}}).to_text().splitlines()
    assert len({len(line) for line in lines[:6]}) == 1
    assert [lines[2].split()[1:], lines[5].split()[1:]] == [["0.5000", "-", "0.3333"], ["-", "-", "-"]]


@pytest.mark.parametrize(
    ("name", "scores", "tokens"),
    [("a", (0.5, 0.25, 0), ["'a'", "twice"]), ("c", (0.5,), ["dice, iou", "'c' has dice"])]
    + [("c", (0.5, value, None), [f"'c' has iou={value}"]) for value in (math.nan, math.inf)],
)
def test_rows_that_do_not_fit_are_refused(table: CaseTable, name, scores, tokens) -> None:
    with refuses(*tokens):
        table.add(name, dict(zip(table.columns, scores, strict=False)))


def test_a_case_is_scored_over_the_classes_that_occur_in_it() -> None:
    prediction, truth = torch.randint(0, 3, (2, 4, 4, 4), generator=torch.Generator().manual_seed(0))
    scores = score_case(prediction, truth, classes=4, structures={"1": (1,), "2": (2,), "4": (3,)})
    assert list(scores) == ["dice", "dice_1", "dice_2", "dice_4", "iou", "iou_1", "iou_2", "iou_4"]
    assert scores["dice"] == sum(dice(prediction, truth).values()) / 2
    assert (scores["iou_2"], scores["dice_4"]) == (iou(prediction, truth)[2], None)
    assert score_case(0 * truth, 0 * truth, classes=2) == {"dice": 1, "iou": 1}
    for volumes in ((prediction, truth), (0 * prediction, truth)):
        with refuses("2 classes", "holds 2"):
            score_case(*volumes, classes=2)


@pytest.mark.parametrize("seed", range(3))
def test_overlapping_structures_are_scored_as_their_unions_and_dice_is_the_mean_of_those_that_occur(seed) -> None:
    prediction, truth = torch.randint(0, 4, (2, 5, 6, 7), generator=torch.Generator().manual_seed(seed))
    structures = {"whole": (1, 2, 3), "core": (1, 3), "nothing": (4,)}
    spacing = (1.0, 2.0, 3.0)
    scores = score_case(prediction, truth, 5, structures=structures, spacing=spacing)
    for name, members in structures.items():
        pair = [sum((volume == index).long() for index in members) for volume in (prediction, truth)]
        single = score_case(*pair, 2, spacing=spacing)
        found = {score: scores[f"{score}_{name}"] for score in ("dice", "iou", "hd95")}
        assert found == (dict.fromkeys(found) if name == "nothing" else single)
    assert scores["dice"] == pytest.approx((scores["dice_whole"] + scores["dice_core"]) / 2)
    assert scores["hd95"] == pytest.approx((scores["hd95_whole"] + scores["hd95_core"]) / 2)


def test_one_line_names_each_structure_unless_there_are_too_many() -> None:
    row = {"dice": 0.7, "dice_whole tumour": 0.84, "dice_4": 0.56, "dice_core": None, "iou": 0.6, "hd95_4": 3.0}
    assert CaseTable({"a": row, "b": row}).headline() == (
        "Dice 0.700 (sd 0.000): whole tumour 0.84, label 4 0.56, core -; IoU 0.600"
    )
    many = {"dice": 0.5, **{f"dice_{number}": 0.5 for number in range(11)}, "iou": 0.4}
    assert CaseTable({"a": many}).headline() == "Dice 0.500, IoU 0.400"


def test_probabilities_add_the_proper_scores() -> None:
    truth = torch.zeros(8, dtype=torch.int64)
    scores = score_case(truth, truth, 2, probability=torch.full((2, 8), 0.5))
    proper = {"negative_log_likelihood": math.log(2), "brier": 0.5, "calibration_error": 0.5}
    assert scores == pytest.approx({"dice": 1, "iou": 1, "uncertainty_error_correlation": None} | proper)


def test_a_spacing_adds_distances() -> None:
    truth = torch.randint(0, 3, (4, 5, 6), generator=torch.Generator().manual_seed(0))
    probability, spacing = torch.rand(3, 4, 5, 6).softmax(0), (1.0, 2.0, 3.0)
    scores = score_case(truth, truth, 3, probability, {"1": (1,), "4": (2,)}, spacing)
    expected = ["dice", "iou", "hd95"]
    expected = [column for name in expected for column in (name, f"{name}_1", f"{name}_4")]
    expected += ["negative_log_likelihood", "brier", "calibration_error", "calibration_error_boundary"]
    expected += ["uncertainty_error_correlation"]
    assert list(scores) == expected
    assert scores["hd95"] == scores["hd95_4"] == 0
    assert score_case(0 * truth, truth, 3, spacing=spacing)["hd95"] is None


def test_a_saved_table_is_a_json_and_a_csv_file(table: CaseTable, tmp_path: Path) -> None:
    for number, original in enumerate((table, CaseTable({"a": {"dice": 0.5}}), CaseTable())):
        paths = original.save(tmp_path / "new" / str(number))
        assert paths == [tmp_path / "new" / str(number) / name for name in ("scores.json", "scores.csv")]
        read = json.loads(paths[0].read_text(), parse_constant=pytest.fail)  # no NaN
        assert read == original.to_dict() == CaseTable(read["cases"]).to_dict()
        assert paths[1].read_text() == original.to_csv()
    (tmp_path / "file").touch()
    with refuses("file/scores.json", "cannot be written"):
        table.save(tmp_path / "file")
