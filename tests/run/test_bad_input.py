"""Bad input, from one end to the other: one error that names file, finding and cure, status 2, and nothing left behind."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import yaml

from pyro_dwp.data import FolderPairs, split_cases
from pyro_dwp.nn.unet import UNet
from pyro_dwp.priors import DeepWeightDensity
from pyro_dwp.priors.store import save_prior
from pyro_dwp.transfer import save_network

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
def data(nifti_tumours: Path, tmp_path: Path) -> Path:
    """A copy of the tumours, to be damaged."""
    return shutil.copytree(nifti_tumours, tmp_path / "data")


@pytest.fixture
def trained_case(data: Path) -> str:
    """A case that a small run trains on."""
    names = FolderPairs(str(data / "images")).names()
    return split_cases(names, 2, 1, 2, seed=0, test_seed=0).train[0]


@pytest.fixture
def refused(call: Call, tmp_path: Path) -> Call:
    """Return a function of (parts of the error, script, *arguments), which must fail on its input and leave nothing."""

    def run(parts: list[str], script: str, *arguments: object) -> str:
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        done = call(tmp_path, script, *arguments)
        assert done.status == 2, done.err + done.out
        assert done.err.startswith("error: ")
        assert done.err.count("error:") == 1
        assert "Traceback" not in done.err
        assert [part for part in parts if part not in done.err] == [], done.err
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
        return done.err

    return run


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


# Priors, networks and checkpoints that do not fit.


@pytest.mark.parametrize("shape", [(5, 5, 5), (3, 3)])
def test_a_prior_for_other_kernel_sizes(
    refused: Call, phantom_flags: list[str], target_flags: list[str], tmp_path: Path, shape: tuple[int, ...]
) -> None:
    densities = {group: DeepWeightDensity(shape, latent=2, hidden=4) for group in "123"}
    save_prior(tmp_path / "prior.safetensors", densities, {})
    flags = [*phantom_flags, "--prior", "deep_weight", "--prior.path", "prior.safetensors", *target_flags]
    parts = ["prior.safetensors", str(shape), "(3, 3, 3)", "run/train_prior.py"]
    refused(parts, "svi_target", *flags)


def test_a_prior_of_a_shallower_network(
    refused: Call, chain: Path, phantom_flags: list[str], target_flags: list[str]
) -> None:
    path = chain / "runs" / "prior" / "prior.safetensors"
    flags = [*phantom_flags, "--prior", "deep_weight", "--prior.path", path, *target_flags]
    parts = [str(path), "groups 1, 2, 3", "run/train_prior.py"]
    refused(parts, "svi_target", *flags, "--network.channels", "[2,2,2,2]")


def test_a_prior_that_is_missing_or_damaged_or_a_bank(refused: Call, chain: Path, tmp_path: Path) -> None:
    whole = (chain / "runs" / "prior" / "prior.safetensors").read_bytes()
    (tmp_path / "half.safetensors").write_bytes(whole[: len(whole) // 2])
    bank = chain / "runs" / "kernels" / "bank.safetensors"
    for path, found in (("absent.safetensors", "does not exist"), ("half.safetensors", "truncated"), (bank, "bank")):
        parts = [str(path), found, "run/train_prior.py"]
        refused(parts, "svi_target", "--prior", "deep_weight", "--prior.path", path)


def test_a_source_network_of_another_architecture(
    refused: Call, phantom_flags: list[str], target_flags: list[str], tmp_path: Path
) -> None:
    save_network(tmp_path / "network.safetensors", UNet(channels=(4, 6)), {})
    flags = [*phantom_flags, "--prior", "gaussian", *target_flags, "--start", "source", "--source"]
    parts = ["network.safetensors", "(8, 4, 3, 3, 3)", "(6, 4, 3, 3, 3)", "config.yaml"]
    refused(parts, "svi_target", *flags, "network.safetensors")


@pytest.fixture
def run_folder(target: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, to be damaged."""
    return shutil.copytree(target, tmp_path / "runs" / "target")


def test_a_run_whose_checkpoint_is_of_another_architecture(refused: Call, data: Path, run_folder: Path) -> None:
    path = run_folder / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config["network"]["init_args"]["channels"] = [4, 6]
    path.write_text(yaml.safe_dump(config))
    flags = ["--run", "runs/target", "--images", "data/images", "--output", "maps"]
    refused(["runs/target/checkpoint/last.safetensors", "shape", "config.yaml"], "predict", *flags)


def test_a_run_with_a_damaged_or_without_a_checkpoint(refused: Call, data: Path, run_folder: Path) -> None:
    path = run_folder / "checkpoint" / "last.safetensors"
    flags = ["--run", "runs/target", "--images", "data/images", "--output", "maps"]
    path.write_bytes(path.read_bytes()[:1000])
    refused(["runs/target/checkpoint/last.safetensors", "damaged", "restore a copy"], "predict", *flags)
    path.unlink()
    refused(["runs/target/checkpoint/last.safetensors", "no checkpoint", "train first"], "predict", *flags)


def test_folders_that_hold_no_run_or_one_of_another_script(refused: Call, data: Path, chain: Path) -> None:
    flags = ["--images", "data/images", "--output", "maps"]
    refused(["data", "no config.yaml", "Give a folder"], "predict", "--run", "data", *flags)
    source = chain / "runs" / "source"
    refused([str(source), "svi_target.py"], "predict", "--run", source, *flags)


def test_a_resumption_with_other_settings(
    call: Call, run_folder: Path, phantom_flags: list[str], chain: Path, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in run_folder.rglob("*") if path.is_file()}
    done = call(tmp_path, "svi_target", "--resume", "--name", "target", "--kl_weight", "0.5",
                "--prior.path", chain / "runs/prior/prior.safetensors")  # fmt: skip
    assert done.status == 2
    assert "runs/target cannot be resumed with other settings" in done.err
    assert "in the run, 0.5 now" in done.err
    assert before == {path: path.read_bytes() for path in run_folder.rglob("*") if path.is_file()}


def test_source_runs_of_different_architectures(refused: Call, chain: Path, tmp_path: Path) -> None:
    other = shutil.copytree(chain / "runs" / "source", tmp_path / "runs" / "other")
    save_network(other / "networks" / "network-00-cycle-0.safetensors", UNet(channels=(4, 6)), {"network": 0})
    parts = ["network-00-cycle-0.safetensors", "shape", "config.yaml"]
    refused(parts, "collect_kernels", "--sources", "runs/other", "--name", "kernels")


@pytest.mark.parametrize("sources", ["nowhere", "data", "runs"])
def test_folders_without_source_networks(refused: Call, data: Path, tmp_path: Path, sources: str) -> None:
    (tmp_path / "runs").mkdir()
    refused([sources], "collect_kernels", "--sources", sources)


def test_a_bank_that_is_missing_or_damaged_or_a_prior(refused: Call, chain: Path, tmp_path: Path) -> None:
    whole = (chain / "runs" / "kernels" / "bank.safetensors").read_bytes()
    (tmp_path / "half.safetensors").write_bytes(whole[: len(whole) // 2])
    prior = chain / "runs" / "prior" / "prior.safetensors"
    for path, found in (("absent.safetensors", "does not exist"), ("half.safetensors", "truncated"), (prior, "prior")):
        refused([str(path), found, "run/collect_kernels.py"], "train_prior", "--bank", path)


# Settings.


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("kl_wight: 1", ["'kl_wight'", "Did you mean 'kl_weight'?"]),
        ("schedule: {epoch: 1}", ["'schedule.epoch'", "Did you mean 'epochs'?"]),
        ("prior: {class_path: gaussian, init_args: {gian: 1}}", ["'prior.gian'", "Did you mean 'gain'?"]),
        ("data: {class_path: phantoms, init_args: {case: 1}}", ["'data.case'", "Did you mean 'cases'?"]),
        ("epochs: [1", ["YAML", "brackets"]),
        ("train: many", ["train", "int", "many"]),
    ],
)
def test_a_config_with_a_mistake(refused: Call, tmp_path: Path, text: str, parts: list[str]) -> None:
    (tmp_path / "mine.yaml").write_text(f"{text}\n")
    refused(["mine.yaml", *parts], "svi_target", "--config", "quick", "--config", "mine.yaml")


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--config", "quik"], ["quik", "Did you mean 'quick'?"]),
        (["--kl_wight", "1"], ["--kl_wight", "Did you mean --kl_weight?"]),
        (["--schedule.epochs", "0"], ["schedule.epochs", "at least 1"]),
        (["--schedule.batch_size", "0"], ["schedule.batch_size", "at least 1"]),
        (["--train", "0"], ["0 to train", "at least one training case"]),
        (["--validation", "0"], ["validation=0", "1 or more"]),
        (["--test", "0"], ["test=0", "1 or more"]),
        (["--samples", "0"], ["samples=0", "1 or more"]),
        (["--draws", "0"], ["draws"]),
        (["--kl_weight", "-1"], ["kl_weight"]),
        (["--kernels_per_group", "0"], ["kernels_per_group"]),
        (["--warm_up", "-1"], ["warm_up"]),
        (["--clip_norm", "0"], ["clip_norm"]),
        (["--initial_scale", "0"], ["initial scale", "positive"]),
        (["--start", "nowhere"], ["start", "source"]),
        (["--guide.relative_scale", "-1"], ["relative_scale", "positive"]),
        (["--preprocess.grid", "[8,8]"], ["grid"]),
        (["--preprocess.spacing", "[8,8,8]"], ["grid", "spacing", "Leave one out"]),
        (["--network.channels", "[]"], ["channels"]),
        (["--network.in_channels", "2"], ["2 channel(s)", "(1, 1, 16, 16, 16)", "Set in_channels"]),
        (["--network.ndim", "2"], ["2 spatial", "Set in_channels and ndim"]),
        (["--name", "../run"], ["--name", "../run"]),
        (["--resume", "--name", "never_begun"], ["never_begun"]),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("--") else "",
)
def test_a_setting_that_cannot_work(
    refused: Call, phantom_flags: list[str], target_flags: list[str], flags: list[str], parts: list[str]
) -> None:
    refused(parts, "svi_target", *phantom_flags, "--prior", "gaussian", *target_flags, *flags)


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--validation", "0"], ["validation=0", "1 or more"]),
        (["--networks", "0"], ["networks=0", "1 or more"]),
        (["--cycles", "0"], ["cycles=0", "1 or more"]),
        (["--network.in_channels", "2"], ["2 channel(s)", "(1, 1, 16, 16, 16)", "Set in_channels"]),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("--") else "",
)
def test_a_setting_of_the_source_that_cannot_work(
    refused: Call, phantom_flags: list[str], source_flags: list[str], flags: list[str], parts: list[str]
) -> None:
    refused(parts, "train_source", *phantom_flags, *source_flags, *flags)


def test_a_prediction_from_no_sample(refused: Call, data: Path, target: Path) -> None:
    flags = ["--run", target, "--images", "data/images", "--output", "maps", "--samples", "0"]
    refused(["samples is 0", "at least one"], "predict", *flags)


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--held_out", "1.5"], ["from 0 to 1", "1.5"]),
        (["--validation", "-1"], ["from 0 to 1", "-1.0"]),
        (["--judged", "2"], ["from 0 to 1", "2.0"]),
        (["--prior.samples", "0"], ["samples is 0", "one draw"]),
        (["--prior.latent", "0"], ["latent_dim=0", "at least 1"]),
        (["--prior.variant", "deep"], ["'deep'", "Did you mean 'dense'?"]),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("--") else "",
)
def test_a_setting_of_the_prior_that_cannot_work(
    refused: Call, chain: Path, flags: list[str], parts: list[str]
) -> None:
    refused(parts, "train_prior", "--bank", chain / "runs" / "kernels" / "bank.safetensors", *flags)


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--held_out", "2"], ["from 0 to 1", "2.0"]),
        (["--minimum_norm", "1000"], ["group '1'", "below 1000", "smaller minimum norm"]),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("--") else "",
)
def test_a_setting_of_the_collection_that_cannot_work(
    refused: Call, chain: Path, flags: list[str], parts: list[str]
) -> None:
    refused(parts, "collect_kernels", "--sources", chain / "runs" / "source", *flags)


def test_no_source_at_all(refused: Call) -> None:
    refused(["sources names no run", "run/train_source.py"], "collect_kernels", "--sources", "[]")


def test_an_output_folder_that_is_a_file(refused: Call, data: Path, target: Path, tmp_path: Path) -> None:
    (tmp_path / "maps").write_text("My notes.")
    flags = ["--run", target, "--images", "data/images", "--output", "maps"]
    refused(["maps/tumour_000_mask.nii.gz", "cannot be written", "choose another folder"], "predict", *flags)


def test_a_name_that_is_taken(refused: Call, run_folder: Path, phantom_flags: list[str]) -> None:
    parts = ["runs/target", "--resume", "--overwrite"]
    refused(parts, "svi_target", *phantom_flags, "--prior", "gaussian", "--name", "target")


def test_a_folder_that_holds_no_run_is_not_overwritten(refused: Call, tmp_path: Path, phantom_flags: list[str]) -> None:
    (tmp_path / "runs" / "thesis").mkdir(parents=True)
    (tmp_path / "runs" / "thesis" / "chapter.txt").write_text("precious")
    flags = [*phantom_flags, "--prior", "gaussian", "--name", "thesis", "--overwrite"]
    refused(["runs/thesis", "not a run", "another --name"], "svi_target", *flags)
