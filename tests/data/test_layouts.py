import json
import re

import numpy as np
import pytest
import torch

from pyro_dwp.data import Decathlon, FolderPairs, expand, nifti_files
from pyro_dwp.errors import DataError


def edit(task, change) -> None:
    description = json.loads((task / "dataset.json").read_text())
    change(description)
    (task / "dataset.json").write_text(json.dumps(description))


def test_variables_and_the_home_folder_are_replaced(monkeypatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("SCANS", "/scans")
    assert str(expand("${SCANS}/a")) == "/scans/a"
    assert str(expand("~/a")) == "/home/me/a"


@pytest.mark.parametrize("folder", ["${NO_SUCH_PLACE}/a", "$NO_SUCH_PLACE/a"])
def test_an_unset_variable_is_named_with_the_cure(monkeypatch, folder) -> None:
    monkeypatch.delenv("NO_SUCH_PLACE", raising=False)
    with pytest.raises(DataError, match=r"NO_SUCH_PLACE, which is not set.*export NO_SUCH_PLACE="):
        Decathlon(folder).names()


def test_decathlon_names_its_training_cases_in_order(task) -> None:
    assert Decathlon(str(task)).names() == ["a", "b"]


def test_decathlon_loads_image_and_label(task, truth) -> None:
    scan = Decathlon(str(task)).load("a")
    assert scan.image.shape == (1, *truth.shape)
    np.testing.assert_array_equal(scan.label, truth)


def test_decathlon_takes_the_modalities_that_are_asked_for(task, write) -> None:
    image = np.random.default_rng(0).normal(size=(6, 7, 5, 3)).astype(np.float32)
    for name in "ab":
        write(task / "imagesTr" / f"{name}.nii.gz", image)
    edit(task, lambda description: description.update(modality={"0": "FLAIR", "1": "T1", "2": "T2"}))
    scan = Decathlon(str(task), modalities=["T2", "FLAIR"]).load("a")
    assert torch.equal(scan.image, torch.from_numpy(np.stack([image[..., 2], image[..., 0]])))


def test_an_unknown_modality_names_the_legal_ones(task) -> None:
    with pytest.raises(DataError, match=r"no modality 'FLAIRE'.*Did you mean 'FLAIR'"):
        Decathlon(str(task), modalities=["FLAIRE"]).load("a")


def test_building_a_source_needs_no_data() -> None:
    assert Decathlon("/no/such/folder").folder == "/no/such/folder"


@pytest.mark.parametrize("source", [Decathlon, FolderPairs])
def test_a_missing_folder_is_named(tmp_path, source) -> None:
    with pytest.raises(DataError, match=re.escape(f"{tmp_path / 'none'} does not exist")):
        source(str(tmp_path / "none")).names()


def test_an_empty_folder_is_named(tmp_path) -> None:
    with pytest.raises(DataError, match=re.escape(f"{tmp_path} has no case")):
        FolderPairs(str(tmp_path)).names()


def test_a_folder_without_dataset_json_is_no_decathlon_task(tmp_path) -> None:
    with pytest.raises(DataError, match=r"dataset\.json does not exist.*folder pairs"):
        Decathlon(str(tmp_path)).names()


@pytest.mark.parametrize("text", ["{", "[]", '{"training": {}}'])
def test_a_broken_dataset_json_is_named(task, text) -> None:
    (task / "dataset.json").write_text(text)
    with pytest.raises(DataError, match=r"dataset\.json .*Copy it from the task again"):
        Decathlon(str(task)).names()


def test_an_empty_training_list_is_named(task) -> None:
    edit(task, lambda description: description.update(training=[]))
    with pytest.raises(DataError, match=r"'training' of .*dataset\.json has no case"):
        Decathlon(str(task)).names()


@pytest.mark.parametrize("kind", ["image", "label"])
def test_a_training_case_without_its_file_is_found_before_anything_is_loaded(task, kind) -> None:
    (task / f"{kind}sTr" / "a.nii.gz").unlink()
    with pytest.raises(DataError, match=rf"the {kind} \./{kind}sTr/a\.nii\.gz, but .* does not exist"):
        Decathlon(str(task)).names()


def test_a_training_entry_without_label_is_shown(task) -> None:
    edit(task, lambda description: description["training"][0].pop("label"))
    with pytest.raises(DataError, match=r"an image and a label, but .*imagesTr/b\.nii\.gz"):
        Decathlon(str(task)).names()


def test_a_case_that_is_listed_twice_is_named(task) -> None:
    edit(task, lambda description: description["training"].append(description["training"][0]))
    with pytest.raises(DataError, match="lists the case b twice"):
        Decathlon(str(task)).names()


def test_an_unknown_case_is_reported_with_the_range_of_names(task) -> None:
    with pytest.raises(DataError, match=r"no case 'c': it has 2, a to b"):
        Decathlon(str(task)).load("c")


def test_folder_pairs_join_files_of_the_same_name(task, truth) -> None:
    source = FolderPairs(str(task / "imagesTr"), str(task / "labelsTr"))
    assert source.names() == ["a", "b"]
    np.testing.assert_array_equal(source.load("b").label, truth)


def test_folder_pairs_without_labels_load_images_alone(task) -> None:
    assert FolderPairs(str(task / "imagesTr")).load("a").label is None


def test_images_without_label_are_listed(task) -> None:
    (task / "labelsTr" / "a.nii.gz").unlink()
    with pytest.raises(DataError, match=r"1 of 2 images have none in .*labelsTr: a\."):
        FolderPairs(str(task / "imagesTr"), str(task / "labelsTr")).names()


def test_a_label_without_image_is_ignored(task) -> None:
    (task / "imagesTr" / "a.nii.gz").unlink()
    assert FolderPairs(str(task / "imagesTr"), str(task / "labelsTr")).names() == ["b"]


def test_hidden_files_are_left_out(task, write) -> None:
    write(task / "imagesTr" / "._a.nii.gz")
    assert list(nifti_files(task / "imagesTr")) == ["a", "b"]


def test_two_files_of_one_case_are_refused(task, write) -> None:
    write(task / "imagesTr" / "a.nii")
    with pytest.raises(DataError, match=r"both a\.nii and a\.nii\.gz"):
        nifti_files(task / "imagesTr")
