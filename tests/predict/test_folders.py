"""Folders of masks against folders of truths."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pyro_dwp.data import write_volume
from pyro_dwp.errors import DataError
from pyro_dwp.metrics import score_case
from pyro_dwp.predict import Prediction, pair_files, score_folders, write_prediction


@pytest.fixture
def labels() -> Tensor:
    """Masks of two predictions, then of two truths: (4, D, H, W)."""
    return torch.randint(0, 3, (4, 5, 6, 7), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def folders(labels: Tensor, tmp_path: Path) -> tuple[Path, Path]:
    for index, name in enumerate(("predictions/a_mask", "predictions/b", "truths/a", "truths/b")):
        write_volume(tmp_path / f"{name}.nii.gz", labels[index], np.eye(4), "uint8")
    return tmp_path / "predictions", tmp_path / "truths"


def test_files_are_scored_as_their_arrays_are(folders: tuple[Path, Path], labels: Tensor) -> None:
    cases = score_folders(*folders).cases
    assert cases == {"a": score_case(labels[0], labels[2], 3), "b": score_case(labels[1], labels[3], 3)}


def test_labels_of_the_truth_can_be_merged(folders: tuple[Path, Path], labels: Tensor) -> None:
    for index, name in enumerate(("a_mask", "b")):
        write_volume(folders[0] / f"{name}.nii.gz", labels[index] > 0, np.eye(4), "uint8")
    cases = score_folders(*folders, label_map={1: 1, 2: 1}).cases
    assert cases["a"] == score_case((labels[0] > 0).long(), (labels[2] > 0).long(), 2)


def test_a_class_that_one_case_lacks_is_a_column_of_all(folders: tuple[Path, Path], labels: Tensor) -> None:
    write_volume(folders[0] / "a_mask.nii.gz", labels[0].clamp(max=1), np.eye(4), "uint8")
    write_volume(folders[1] / "a.nii.gz", labels[2].clamp(max=1), np.eye(4), "uint8")
    assert score_folders(*folders).cases["a"]["dice_2"] == 1.0


def test_empty_masks_are_masks(folders: tuple[Path, Path], labels: Tensor) -> None:
    for path in (folders[0] / "a_mask.nii.gz", folders[0] / "b.nii.gz", folders[1] / "a.nii.gz"):
        write_volume(path, torch.zeros(5, 6, 7), np.eye(4), "uint8")
    dice = {case: scores["dice"] for case, scores in score_folders(*folders, classes=3).cases.items()}
    assert dice == {"a": 1.0, "b": 0.0}


def test_maps_beside_a_mask_and_truths_without_prediction_are_passed_over(tmp_path: Path, labels: Tensor) -> None:
    maps = torch.zeros(5, 6, 7)
    for classes in (2, 3):
        prediction = Prediction(torch.rand(classes, 5, 6, 7), maps, maps)
        write_prediction(tmp_path / "predictions", f"case{classes}", prediction, np.eye(4))
    for name in ("case2", "case3", "case4"):
        write_volume(tmp_path / "truths" / f"{name}.nii.gz", labels[0], np.eye(4), "uint8")
    pairs = pair_files(tmp_path / "predictions", tmp_path / "truths")
    assert {case: prediction.name for case, (prediction, _) in pairs.items()} == {
        "case2": "case2_mask.nii.gz",
        "case3": "case3_mask.nii.gz",
    }


def test_a_truth_may_be_called_mask_itself(tmp_path: Path, labels: Tensor) -> None:
    for folder in ("predictions", "truths"):
        write_volume(tmp_path / folder / "a_mask.nii.gz", labels[0], np.eye(4), "uint8")
    assert list(pair_files(tmp_path / "predictions", tmp_path / "truths")) == ["a_mask"]


def test_a_prediction_without_truth_is_refused(folders: tuple[Path, Path]) -> None:
    (folders[1] / "b.nii.gz").unlink()
    with pytest.raises(DataError, match=r"1 of 2.*truths: b\.nii\.gz"):
        score_folders(*folders)


def test_two_predictions_of_one_truth_are_refused(folders: tuple[Path, Path], labels: Tensor) -> None:
    write_volume(folders[0] / "a.nii.gz", labels[0], np.eye(4), "uint8")
    with pytest.raises(DataError, match="has two"):
        pair_files(*folders)


@pytest.mark.parametrize("side", [0, 1])
def test_a_missing_and_an_empty_folder_are_refused(folders: tuple[Path, Path], tmp_path: Path, side: int) -> None:
    for replacement, message in ((tmp_path / "nowhere", "does not exist"), (tmp_path / "empty", "no case")):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(DataError, match=f"{replacement.name}.*{message}"):
            pair_files(*(replacement if index == side else folder for index, folder in enumerate(folders)))


def test_other_shapes_and_other_affines_are_refused(folders: tuple[Path, Path], labels: Tensor) -> None:
    write_volume(folders[0] / "b.nii.gz", labels[1, :4], np.eye(4), "uint8")
    with pytest.raises(
        DataError, match=r"shape.*truths/b\.nii\.gz is \(5, 6, 7\).*predictions/b\.nii\.gz is \(4, 6, 7\)"
    ):
        score_folders(*folders)
    write_volume(folders[0] / "b.nii.gz", labels[1], np.diag([1, 1, 2, 1.0]), "uint8")
    with pytest.raises(DataError, match=r"affine.*b\.nii\.gz"):
        score_folders(*folders)


def test_a_label_that_is_no_class_is_refused_by_file(folders: tuple[Path, Path]) -> None:
    with pytest.raises(DataError, match=r"a_mask\.nii\.gz.*labels are 0 to 1"):
        score_folders(*folders, classes=2)
