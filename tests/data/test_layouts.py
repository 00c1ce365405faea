"""Folders of scans: what is found in them, and every way in which they can be wrong."""

import json
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from pyro_dwp.data import Decathlon, FolderPairs, expand, scan_files
from pyro_dwp.errors import ConfigError
from tests.helpers.refusal import refuses


def edit(task, **changes) -> None:
    path = task / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def pairs(task, **settings) -> FolderPairs:
    return FolderPairs(str(task / "imagesTr"), str(task / "labelsTr"), **settings)


def test_variables_and_the_home_folder_are_replaced_or_an_unset_one_named(monkeypatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("SCANS", "/scans")
    assert [str(expand(path)) for path in ("${SCANS}/a", "~/a")] == ["/scans/a", "/home/me/a"]
    for folder in ("${NO_SUCH_PLACE}/a", "$NO_SUCH_PLACE/a"):
        with refuses("export NO_SUCH_PLACE="):
            Decathlon(folder).names()


def test_decathlon_loads_the_modalities_that_are_asked_for_and_the_label(task, write, truth) -> None:
    assert Decathlon(str(task)).names() == ["a", "b"]
    assert Decathlon(str(task)).load("a").image.shape == (1, *truth.shape)
    image = np.random.default_rng(0).normal(size=(6, 7, 5, 3)).astype(np.float32)
    write(task / "imagesTr" / "a.nii.gz", image)
    edit(task, modality={"0": "FLAIR", "1": "T1", "2": "T2"})
    source = Decathlon(str(task), modalities=["T2", "FLAIR"])
    assert torch.equal(source.load("a").image, torch.from_numpy(np.stack([image[..., 2], image[..., 0]])))
    np.testing.assert_array_equal(source.load("a").label, truth)
    with refuses("no case 'c'", "a to b"):
        source.load("c")


ENTRY = {"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}
ENTRIES = [None, 3, ENTRY["image"], [], {"image": ENTRY["image"]}, ENTRY | {"label": None}, ENTRY | {"image": 3}]
MODALITIES = ["FLAIR", ["FLAIR"], None, {}, {"x": "FLAIR"}, {"1": "FLAIR"}, {"0": 7}, {"0": None}]
BROKEN = {
    "unknown modality": ({"modality": {"0": "FLAIR", "1": "T1"}}, ["'FLAIRE'", "Did you mean 'FLAIR'"]),
    **{f"modality {value}": ({"modality": value}, ["'modality'", "FLAIR"]) for value in MODALITIES},
    **{f"training {value}": ({"training": value}, ["'training'"]) for value in (None, {}, "a", 3, [])},
    **{f"entry {value}": ({"training": [value]}, ["an image and of a label"]) for value in ENTRIES},
    "twice": ({"training": [ENTRY, ENTRY]}, ["the case a twice"]),
    "no image": ({"training": [ENTRY | {"image": "c.nii.gz"}]}, ["image c.nii.gz", "does not exist"]),
    "no label": ({"training": [ENTRY | {"label": "c.nii.gz"}]}, ["label c.nii.gz", "does not exist"]),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_wrong_dataset_json_is_refused_before_a_scan_is_read(task, broken) -> None:
    changes, tokens = BROKEN[broken]
    edit(task, **changes)
    source = Decathlon(str(task), modalities=["FLAIRE"] if broken == "unknown modality" else None)
    with refuses(str(task / "dataset.json"), *tokens):
        source.names()
        source.load("a")


@pytest.mark.parametrize("text", ["{", "[]", None])
def test_a_damaged_or_missing_dataset_json_is_named_with_the_cure(task, text) -> None:
    (task / "dataset.json").unlink() if text is None else (task / "dataset.json").write_text(text)
    with refuses(str(task / "dataset.json"), "folder_pairs"):
        Decathlon(str(task)).names()


@pytest.mark.parametrize("source", [Decathlon, FolderPairs])
def test_folders_that_cannot_be_used_are_named(tmp_path, monkeypatch, write, source) -> None:
    (tmp_path / "file").touch()
    folders = {"none": "does not exist"} | ({"file": "is a file"} if source is Decathlon else {".": "no scan"})
    for folder, token in folders.items():
        with refuses(str(tmp_path / folder), token):
            source(str(tmp_path / folder)).names()
    write(tmp_path / "a_mask.nii.gz")
    with refuses(str(tmp_path), "dataset.json" if source is Decathlon else "1 masks and maps"):
        source(str(tmp_path)).names()
    monkeypatch.setattr(Path, "is_dir", Mock(side_effect=PermissionError(13, "Permission denied")))
    with refuses(str(tmp_path), "Permission denied"):
        source(str(tmp_path)).names()


def test_folder_pairs_join_files_of_the_same_name_or_take_images_alone(task, truth) -> None:
    assert pairs(task).names() == ["a", "b"]
    np.testing.assert_array_equal(pairs(task).load("b").label, truth)
    assert FolderPairs(str(task / "imagesTr")).load("a").label is None
    assert FolderPairs(str(task / "imagesTr" / "a.nii.gz")).names() == ["a"]
    (task / "labelsTr" / "a.nii.gz").unlink()
    with refuses("1 of 2", "labelsTr: a."):
        pairs(task).names()
    (task / "imagesTr" / "a.nii.gz").unlink()
    assert pairs(task).names() == ["b"]


def test_sequences_named_as_nnunet_names_them_are_channels(tmp_path, write, truth) -> None:
    for case, offset in (("a", 0), ("b_0007", 10)):
        write(tmp_path / "labelsTr" / f"{case}.nii.gz", truth)
        for number in range(3):
            volume = offset + number + np.random.default_rng(0).uniform(0, 0.5, truth.shape)
            write(tmp_path / "imagesTr" / f"{case}_{number:04d}.nii.gz", volume)
    for source in (pairs(tmp_path), pairs(tmp_path, channels=3), FolderPairs(str(tmp_path / "imagesTr"), channels=3)):
        assert source.names() == ["a", "b_0007"]
        assert source.load("b_0007").image.flatten(1).amin(1).int().tolist() == [10, 11, 12]
    (tmp_path / "imagesTr" / "a_0001.nii.gz").unlink()
    with refuses("3 sequence(s)", "a has a_0000.nii.gz, a_0002.nii.gz"):
        pairs(tmp_path).names()


def test_numbers_that_count_the_cases_are_part_of_their_names(tmp_path, write, truth) -> None:
    names = ["patient_0000", "patient_0001"]
    for name in names:
        write(tmp_path / "imagesTr" / f"{name}.nii.gz")
        write(tmp_path / "labelsTr" / f"{name}.nii.gz", truth)
    for channels in (None, 1):
        assert pairs(tmp_path, channels=channels).names() == names
        assert FolderPairs(str(tmp_path / "imagesTr"), channels=channels).names() == names


def test_sequences_along_the_fourth_axis_are_channels_where_their_number_is_given(tmp_path, write) -> None:
    write(tmp_path / "a.nii.gz", np.random.rand(4, 4, 4, 1))
    assert FolderPairs(str(tmp_path)).load("a").image.shape == (1, 4, 4, 4)
    write(tmp_path / "a.nii.gz", np.random.rand(4, 4, 4, 2))
    assert FolderPairs(str(tmp_path), channels=2).load("a").image.shape == (2, 4, 4, 4)
    with refuses("a.nii.gz", "holds 2", "--data.channels 2"):
        FolderPairs(str(tmp_path)).load("a")


@pytest.mark.parametrize("channels", [0, -1, 1.5, "two"])
def test_channels_that_cannot_be_are_refused(channels) -> None:
    with refuses("channels", error=ConfigError):
        FolderPairs("images", channels=channels)
    with refuses("modalities", error=ConfigError):
        Decathlon("task", modalities=[] if channels == 0 else channels)


def test_hidden_files_and_results_of_a_prediction_are_left_out_and_doubles_refused(task, write) -> None:
    folder = task / "imagesTr"
    for name in ("._a", "a_mask", "a_entropy", "a_mutual_information", "a_probability", "a_probability_4"):
        write(folder / f"{name}.nii.gz")
    assert [len(scan_files(folder, results)) for results in (False, True)] == [2, 7]
    write(folder / "a.nii")
    with refuses("both a.nii and a.nii.gz"):
        scan_files(folder)
