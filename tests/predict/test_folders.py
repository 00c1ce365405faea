"""Folders of masks against folders of truths."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pyro_dwp.data import Preprocess, Scan, write_volume
from pyro_dwp.errors import ConfigError
from pyro_dwp.metrics import dice, score_case
from pyro_dwp.predict import FolderScores, Prediction, pair_files, score_folders, write_prediction
from tests.helpers.refusal import refuses


def fill(folder: Path, **masks: Tensor) -> None:
    for name, mask in masks.items():
        write_volume(folder / f"{name}.nii.gz", mask, np.eye(4), "int32")


LABELS = torch.randint(0, 3, (4, 5, 6, 7), generator=torch.Generator().manual_seed(0))  # two predictions, two truths


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    fill(tmp_path / "predictions", a_mask=LABELS[0], b=LABELS[1])
    fill(tmp_path / "truths", a=LABELS[2], b=LABELS[3])
    return tmp_path / "predictions", tmp_path / "truths"


def score(folder: Path, prediction: Tensor, truth: Tensor) -> FolderScores:
    fill(folder / "p", a=prediction)
    fill(folder / "t", a=truth)
    return score_folders(folder / "p", folder / "t")


def test_files_are_scored_as_their_arrays_are_and_labels_of_the_truth_can_be_merged(folders):
    scored = score_folders(*folders)
    assert scored.table.cases == {
        "a": score_case(*LABELS[::2], 3, spacing=np.ones(3)),
        "b": score_case(*LABELS[1::2], 3, spacing=np.ones(3)),
    }
    assert not scored.notes
    fill(folders[0], a_mask=LABELS[0] > 0, b=LABELS[1] > 0)
    cases = score_folders(*folders, label_map={1: 1, 2: 1}).table.cases
    assert cases["a"] == score_case(*(LABELS[::2] > 0).long(), 2, spacing=np.ones(3))
    (note,) = score_folders(*folders).notes
    assert "2" in note
    assert "--label_map" in note


def test_a_class_that_a_case_lacks_is_not_scored_there_and_empty_masks_are_masks(folders):
    fill(folders[0], a_mask=LABELS[0].clamp(max=1))
    fill(folders[1], a=LABELS[2].clamp(max=1))
    table = score_folders(*folders).table
    assert table.cases["a"]["dice_2"] is None
    assert table.cases["a"]["dice"] == table.cases["a"]["dice_1"] < 1
    assert table.mean()["dice_2"] == table.cases["b"]["dice_2"]
    fill(folders[0], a_mask=0 * LABELS[0], b=0 * LABELS[0])
    fill(folders[1], a=0 * LABELS[0])
    assert [row["dice"] for row in score_folders(*folders).table.cases.values()] == [1.0, 0.0]


def test_labels_are_values_and_labels_between_them_earn_nothing(tmp_path):
    """BraTS stores 0, 1, 2, 4: counting a class 3 that is nowhere as right gave 0.749 in place of 0.665."""
    stored = torch.tensor([0, 1, 2, 4])
    truth = torch.randint(0, 4, (12, 12, 12))
    prediction = torch.where(torch.rand(truth.shape) < 0.45, (truth + 1) % 4, truth)
    case = score(tmp_path, stored[prediction], stored[truth]).table.cases["a"]
    expected = dice(prediction, truth)
    assert [case[f"dice_{label}"] for label in (1, 2, 4)] == [*expected.values()]
    assert case["dice"] == pytest.approx(sum(expected.values()) / 3)
    assert "dice_3" not in case


@pytest.mark.parametrize("stray", [2, 20_000])
def test_one_stray_voxel_is_one_label_that_is_wrong(tmp_path, stray):
    truth = torch.zeros(5, 6, 7, dtype=torch.int64)
    truth[1:3] = 1
    prediction = truth.clone()
    prediction[4, 5, 6] = stray
    scored = score(tmp_path, prediction, truth)
    assert scored.table.cases["a"]["dice"] == 0.5
    assert str(stray) in scored.notes[0]


BRATS = {1: 1, 2: 1, 4: 2}


@pytest.mark.parametrize(
    ("label_map", "holds", "values"),
    [
        ({1: 1, 2: 2, 4: 3}, "labels", [1, 2, 4]),
        (BRATS, "classes", [1, 2]),
        (None, "labels", [1, 2, 3]),
        ({1: 2, 300: 1}, "labels", [1, 300]),
    ],
)
def test_masks_of_a_run_are_scored_as_the_run_scores_them(tmp_path, label_map, holds, values):
    """A remapped mask used to be compared with the stored labels: 0.384 in place of 0.513."""
    preprocess, known = Preprocess(label_map=label_map), label_map or {1: 1, 2: 2, 3: 3}
    truth = torch.tensor([0, *known])[torch.randint(0, len(known) + 1, (5, 6, 7))]
    scan = Scan("a", torch.rand(1, 5, 6, 7), truth, np.eye(4))
    probability, zeros = torch.rand(max(known.values()) + 1, 5, 6, 7).softmax(0), torch.zeros(5, 6, 7)
    folders = tmp_path / "p", tmp_path / "t"
    write_prediction(folders[0], Prediction(probability, zeros, zeros), scan, preprocess)
    fill(folders[1], a=truth)
    scored = score_folders(*folders)
    right = dice(probability.argmax(0), preprocess.mapped_label(scan))
    assert scored.table.cases["a"]["dice"] == pytest.approx(sum(right.values()) / len(right))
    assert not scored.notes
    assert sorted(int(name[5:]) for name in scored.table.columns if name.startswith("dice_")) == values
    written = json.loads((folders[0] / "labels.json").read_text())
    stored = label_map and {str(key): value for key, value in label_map.items()}
    assert written == {"masks": holds, "label_map": stored, "structures": None}
    one = dict.fromkeys(known, 1)
    if holds == "labels":
        merged = score_folders(*folders, label_map=one)
        assert merged.table.cases["a"]["dice"] == dice(probability.argmax(0) > 0, truth > 0)[1]
    else:
        with refuses("labels.json", str(one)):
            score_folders(*folders, label_map=one)


REGIONS = {"whole": [1, 2, 4], "core": [1, 4]}


@pytest.mark.parametrize("label_map", [{1: 1, 2: 2, 4: 3}, {1: 1, 4: 1, 2: 2}, None])
def test_regions_come_from_labels_json_or_are_given_in_the_labels_of_the_truths(tmp_path, label_map):
    """Whether the masks hold labels, merged classes or come from another program, the voxels of a region are the same."""
    truth = torch.tensor([0, 1, 2, 4])[torch.randint(0, 4, (5, 6, 7))]
    preprocess = Preprocess(label_map=label_map, structures=REGIONS)
    scan, zeros = Scan("a", torch.rand(1, 5, 6, 7), truth, np.eye(4)), torch.zeros(5, 6, 7)
    probability = torch.rand(5 if label_map is None else 1 + max(label_map.values()), 5, 6, 7).softmax(0)
    folders = tmp_path / "p", tmp_path / "t"
    write_prediction(folders[0], Prediction(probability, zeros, zeros), scan, preprocess)
    fill(folders[1], a=truth)
    classes = preprocess.classes_of_structures(len(probability))
    pair = probability.argmax(0), preprocess.mapped_label(scan)
    expected = score_case(*pair, len(probability), structures=classes, spacing=np.ones(3))
    assert score_folders(*folders).table.cases["a"] == expected
    assert score_folders(*folders, structures=REGIONS).table.cases["a"] == expected
    core = score_folders(*folders, structures={"core": [1, 4]}).table.cases["a"]
    assert core["dice"] == expected["dice_core"]
    with refuses("merges", error=ConfigError):
        score_folders(folders[1], folders[1], label_map={1: 1, 4: 1, 2: 2}, structures={"core": [1]})


DAMAGED = ["{", "[]", "{}", '{"masks": "both"}', '{"masks": "classes", "label_map": [1]}']
DAMAGED += [
    f'{{"masks": "labels", "structures": {text}}}' for text in ("[1]", '{"core": 1}', '{"core": []}', '{"core": [-1]}')
]
DAMAGED += [f'{{"masks": "labels", "label_map": {{{pair}}}}}' for pair in ('"one": 1', '"1": 1.5', '"1": -1')]


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_labels_json_is_refused(folders, text):
    (folders[0] / "labels.json").write_text(text)
    with refuses(str(folders[0] / "labels.json"), "--label_map"):
        score_folders(*folders)


def test_a_truth_without_prediction_is_named_and_may_be_allowed(folders):
    fill(folders[1], c=LABELS[0])
    with refuses("1 of 3 truths", "c", "--allow_missing"):
        score_folders(*folders)
    scored = score_folders(*folders, allow_missing=True)
    assert list(scored.table.cases) == ["a", "b"]
    assert "c" in scored.notes[0]


def test_maps_beside_a_mask_are_passed_over_and_a_truth_may_be_called_mask_itself(tmp_path):
    maps = torch.zeros(5, 6, 7)
    for classes in (2, 3):
        scan = Scan(f"case{classes}", maps[None], None, np.eye(4))
        write_prediction(tmp_path / "p", Prediction(torch.rand(classes, 5, 6, 7), maps, maps), scan, Preprocess())
    fill(tmp_path / "p", x_mask=LABELS[0])
    fill(tmp_path / "t", **dict.fromkeys(["case2", "case3", "case4", "x_mask"], LABELS[0]))
    pairs, missing = pair_files(tmp_path / "p", tmp_path / "t")
    masks = {"case2": "case2_mask.nii.gz", "case3": "case3_mask.nii.gz", "x_mask": "x_mask.nii.gz"}
    assert {case: path.name for case, (path, _) in pairs.items()} == masks
    assert missing == ["case4"]


@pytest.mark.parametrize(
    ("side", "name", "mask", "tokens"),
    [
        (1, "b", None, ["1 of 2", "truths: b.nii.gz"]),
        (0, "a", torch.zeros(5, 6, 7), ["has two", "a_mask.nii.gz"]),
        (0, "b", torch.zeros(4, 6, 7), ["truths/b.nii.gz is (5, 6, 7)", "predictions/b.nii.gz is (4, 6, 7)"]),
        (1, "b", torch.arange(1200).reshape(30, 40)[None], ["truths/b.nii.gz"]),
    ],
)
def test_files_that_do_not_pair_up_are_refused(folders, side, name, mask, tokens):
    path = folders[side] / f"{name}.nii.gz"
    path.unlink() if mask is None else fill(folders[side], **{name: mask})
    with refuses(*tokens):
        score_folders(*folders)


def test_other_affines_are_refused_but_not_many_labels(folders):
    atlas = torch.arange(210).reshape(5, 6, 7) * 2 + 1000
    fill(folders[0], a_mask=atlas.flip(0))
    with refuses("look like scans", "210", "predictions"):
        score_folders(*folders)
    fill(folders[1], a=atlas)
    assert len(score_folders(*folders).table.columns) > 400
    write_volume(folders[0] / "b.nii.gz", LABELS[1], np.diag([1, 1, 2, 1.0]), "uint8")
    with refuses("affine", "b.nii.gz"):
        score_folders(*folders)
