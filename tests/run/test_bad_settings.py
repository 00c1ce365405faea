"""Priors, networks, checkpoints and settings that cannot work: one error that names the cure, status 2, nothing left behind."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pyro_dwp.nn.unet import UNet
from pyro_dwp.priors import DeepWeightDensity
from pyro_dwp.priors.store import save_prior
from pyro_dwp.transfer import save_network

Call = Callable[..., Any]

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
        (["--held_out", "1.5"], ["between 0 and 1", "1.5"]),
        (["--validation", "-1"], ["between 0 and 1", "-1.0"]),
        (["--judged", "2"], ["between 0 and 1", "2.0"]),
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
        (["--held_out", "2"], ["between 0 and 1", "2.0"]),
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
