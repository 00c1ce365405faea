"""Bad scans, from one end to the other: one error that names file, finding and cure, status 2, and nothing left behind."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from pyro_dwp.data import FolderPairs, split_cases

Call = Callable[..., Any]
IMAGES = ["--data", "folder_pairs", "--data.images", "data/images"]
PAIRS = [*IMAGES, "--data.labels", "data/labels"]
ONE_CLASS = ["--preprocess.label_map", "{1: 1}"]


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray], affine: np.ndarray | None = None) -> None:
    """Replace a volume by a changed one; with nibabel itself, because `write_volume` refuses four axes."""
    image = nib.load(path)
    changed = nib.Nifti1Image(change(np.asarray(image.dataobj)), image.affine if affine is None else affine)
    path.unlink()
    nib.save(changed, path)


def missing(images: Path, labels: Path) -> None:
    shutil.rmtree(images.parent)


def empty(images: Path, labels: Path) -> None:
    shutil.rmtree(images.parent)
    images.parent.mkdir()


def without_label(images: Path, labels: Path) -> None:
    labels.unlink()


def other_shape(images: Path, labels: Path) -> None:
    rewrite(labels, lambda label: label[:-1])


def other_affine(images: Path, labels: Path) -> None:
    rewrite(labels, lambda label: label, np.diag([-6.0, 6.0, 6.0, 1.0]))


def four_axes(images: Path, labels: Path) -> None:
    rewrite(images, lambda image: np.stack([image, image], axis=-1))


def not_finite(images: Path, labels: Path) -> None:
    rewrite(images, lambda image: np.where(image > image.mean(), np.nan, image))


def constant(images: Path, labels: Path) -> None:
    rewrite(images, lambda image: np.full_like(image, 3))


def strange_label(images: Path, labels: Path) -> None:
    rewrite(labels, lambda label: 7 * label)


def fractional_label(images: Path, labels: Path) -> None:
    rewrite(labels, lambda label: 0.5 * label)


def truncated(images: Path, labels: Path) -> None:
    images.write_bytes(images.read_bytes()[:-2000])


def truncated_label(images: Path, labels: Path) -> None:
    labels.write_bytes(labels.read_bytes()[:-30])


def no_volume(images: Path, labels: Path) -> None:
    images.write_text("This is no image.")


IMAGE = "data/images/{case}.nii.gz"
LABEL = "data/labels/{case}.nii.gz"
DAMAGES = [
    (missing, ["data/images", "does not exist", "Check the path"]),
    (empty, ["data/images", "has no case", "Put scans"]),
    (without_label, ["{case}", "data/labels", "1 of 6 images have none", "Add the labels"]),
    (other_shape, [IMAGE, LABEL, "(16, 16, 16)", "(15, 16, 16)", "Resample"]),
    (other_affine, [IMAGE, LABEL, "mm apart", "Resample"]),
    (four_axes, [IMAGE, "three axes", "(16, 16, 16, 2)", "Store each sequence"]),
    (not_finite, [IMAGE, "not finite", "Repair"]),
    (constant, [IMAGE, "constant", "every voxel", "leave the case out"]),
    (strange_label, ["{case}", "[0, 7]", "Legal values are [0, 1]", "label_map"]),
    (fractional_label, [LABEL, "whole numbers", "0 to 0.5", "Export"]),
    (truncated, [IMAGE, "truncated", "bytes", "copy or download it again"]),
    (truncated_label, [LABEL, "truncated", "bytes", "copy or download it again"]),
    (no_volume, [IMAGE, "cannot be read", "copy or download it again"]),
]
by_name = {"ids": lambda value: value.__name__ if callable(value) else ""}


@pytest.fixture
def trained_case(data: Path) -> str:
    """A case that a small run trains on."""
    names = FolderPairs(str(data / "images")).names()
    return split_cases(names, 2, 1, 2, seed=0, test_seed=0).train[0]


@pytest.fixture
def refused_in_one_line(refused: Call) -> Call:
    def run(*arguments: Any) -> None:
        assert len(refused(*arguments).splitlines()) == 1

    return run


def damage(folder: Path, case: str, how: Callable[[Path, Path], None], expected: list[str]) -> list[str]:
    how(folder / "images" / f"{case}.nii.gz", folder / "labels" / f"{case}.nii.gz")
    return [part.format(case=case) for part in expected]


# Scans to learn from.


@pytest.mark.parametrize(("how", "expected"), DAMAGES, **by_name)
def test_target_scans(
    refused_in_one_line: Call,
    data: Path,
    trained_case: str,
    target_flags: list[str],
    how: Callable,
    expected: list[str],
) -> None:
    parts = damage(data, trained_case, how, expected)
    refused_in_one_line(parts, "svi_target", "--prior", "gaussian", *PAIRS, *target_flags, *ONE_CLASS, "--name", "run")


@pytest.mark.parametrize(("how", "expected"), DAMAGES, **by_name)
def test_source_scans(
    refused_in_one_line: Call, data: Path, source_flags: list[str], how: Callable, expected: list[str]
) -> None:
    case = split_cases(FolderPairs(str(data / "images")).names(), 2, 1, 0, seed=0).train[0]
    parts = damage(data, case, how, expected)
    refused_in_one_line(parts, "train_source", *PAIRS, *source_flags, *ONE_CLASS)


def test_a_label_that_the_network_has_no_class_for(
    refused: Call, data: Path, trained_case: str, target_flags: list[str]
) -> None:
    parts = damage(data, trained_case, strange_label, ["{case}", "2 classes", "[0, 7]", "label_map"])
    refused(parts, "svi_target", "--prior", "gaussian", *PAIRS, *target_flags)


def test_scans_without_any_labels(refused: Call, data: Path, target_flags: list[str]) -> None:
    refused(["label"], "svi_target", "--prior", "gaussian", *IMAGES, *target_flags)


def test_fewer_scans_than_the_split_asks_for(refused: Call, data: Path, target_flags: list[str]) -> None:
    parts = ["40 to test", "there are 6", "Ask for fewer"]
    refused(parts, "svi_target", "--prior", "gaussian", *PAIRS, *target_flags, "--test", "40")


def test_a_decathlon_folder_without_its_list(refused: Call, data: Path, target_flags: list[str]) -> None:
    flags = ["--data", "decathlon", "--data.folder", "data", "--prior", "gaussian", *target_flags]
    refused(["data/dataset.json", "does not exist", "folder pairs"], "svi_target", *flags)


@pytest.mark.parametrize(
    ("entry", "parts"),
    [
        ({"image": "images/tumour_000.nii.gz"}, ["data/dataset.json", "image and a label", "Add the missing file"]),
        ({"image": "images/a.nii.gz", "label": "labels/a.nii.gz"}, ["data/images/a.nii.gz", "does not exist", "Add"]),
    ],
)
def test_a_decathlon_case_without_a_file(
    refused: Call, data: Path, target_flags: list[str], entry: dict[str, str], parts: list[str]
) -> None:
    (data / "dataset.json").write_text(json.dumps({"modality": {"0": "FLAIR"}, "training": [entry]}))
    flags = ["--data", "decathlon", "--data.folder", "data", "--prior", "gaussian", *target_flags]
    refused(parts, "svi_target", *flags)


def test_a_data_folder_whose_variable_is_not_set(
    refused: Call, target_flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYRO_DWP_DATA", raising=False)
    parts = ["${PYRO_DWP_DATA}/lgg", "not set", "export PYRO_DWP_DATA"]
    refused(parts, "svi_target", "--config", "lgg", "--prior", "gaussian", *target_flags)


def test_a_bad_test_scan_keeps_what_was_learned_and_the_repaired_run_can_be_resumed(
    call: Call,
    finished: Call,
    no_figures: None,
    data: Path,
    nifti_tumours: Path,
    target_flags: list[str],
    tmp_path: Path,
) -> None:
    case = split_cases(FolderPairs(str(data / "images")).names(), 2, 1, 2, seed=0, test_seed=0).test[1]
    image = data / "images" / f"{case}.nii.gz"
    truncated(image, image)
    flags = ["--prior", "gaussian", *PAIRS, *target_flags, "--name", "run"]
    done = call(tmp_path, "svi_target", *flags)
    assert done.status == 2
    assert f"data/images/{case}.nii.gz" in done.err
    assert (tmp_path / "runs" / "run" / "checkpoint").is_dir()
    assert not (tmp_path / "runs" / "run" / "metrics.json").exists()
    shutil.copy(nifti_tumours / "images" / image.name, image)
    finished(tmp_path, "svi_target", *flags, "--resume")
    finished(tmp_path, "svi_target", *flags[:-1], "never_broken")
    scores = [json.loads((tmp_path / "runs" / name / "metrics.json").read_text()) for name in ("run", "never_broken")]
    assert scores[0]["test"] == scores[1]["test"]


# Scans to predict, and folders to score.


@pytest.mark.parametrize(
    ("how", "expected"),
    [entry for entry in DAMAGES if entry[0] in (missing, empty, four_axes, not_finite, constant, truncated, no_volume)],
    **by_name,
)
def test_one_bad_scan_among_those_to_predict(
    refused_in_one_line: Call, data: Path, target: Path, how: Callable, expected: list[str]
) -> None:
    parts = damage(data, "tumour_004", how, expected)
    refused_in_one_line(parts, "predict", "--run", target, "--images", "data/images", "--output", "maps")


def test_a_scan_to_predict_that_is_not_there(refused: Call, target: Path) -> None:
    parts = ["absent.nii.gz", "does not exist", "Check the path"]
    refused(parts, "predict", "--run", target, "--images", "absent.nii.gz", "--output", "maps")


def test_a_window_of_two_edges(refused: Call, data: Path, target: Path) -> None:
    flags = ["--run", target, "--images", "data/images", "--output", "maps"]
    refused(["window"], "predict", *flags, "--window", "[8,8]")
    refused(["window", "(0, 8, 8)", "positive edge"], "predict", *flags, "--window", "[0,8,8]")


@pytest.mark.parametrize(
    ("how", "parts"),
    [
        (lambda masks, truths: shutil.rmtree(truths), ["data/labels", "does not exist", "Check the path"]),
        (
            lambda masks, truths: (truths / "tumour_001.nii.gz").unlink(),
            ["tumour_001", "data/labels", "Add the truths"],
        ),
        (
            lambda masks, truths: other_shape(masks, truths / "tumour_001.nii.gz"),
            ["data/masks/tumour_001.nii.gz", "data/labels/tumour_001.nii.gz", "(15, 16, 16)", "Resample"],
        ),
        (
            lambda masks, truths: other_affine(masks, truths / "tumour_001.nii.gz"),
            ["data/masks/tumour_001.nii.gz", "data/labels/tumour_001.nii.gz", "mm apart", "Resample"],
        ),
        (
            lambda masks, truths: truncated_label(truths, masks / "tumour_001.nii.gz"),
            ["data/masks/tumour_001.nii.gz", "truncated", "copy or download it again"],
        ),
        (
            lambda masks, truths: strange_label(masks, truths / "tumour_001.nii.gz"),
            ["tumour_001", "7"],
        ),
    ],
    ids=["missing", "without_truth", "shape", "affine", "truncated", "label"],
)
def test_masks_that_cannot_be_scored(refused: Call, data: Path, how: Callable, parts: list[str]) -> None:
    masks = shutil.copytree(data / "labels", data / "masks")
    how(masks, data / "labels")
    flags = ["--predictions", "data/masks", "--truths", "data/labels", "--classes", "2"]
    refused(parts, "evaluate", *flags, "--output", "scores")
