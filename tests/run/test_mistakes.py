"""Settings, files and classes of one's own that cannot work: one line with the cure, status 2, and nothing left behind."""

import shlex
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from pyro_dwp.files import write_tensors
from pyro_dwp.nn import UNet, save_network
from pyro_dwp.priors import DeepWeightDensity
from pyro_dwp.priors.store import save_prior

MINE = """
import torch
from pyro.distributions import HalfNormal, Normal
from torch import nn
from guides import MeanField
from pyro_dwp.priors import Prior

class Silent(Prior):
    def distribution(self, site):
        Normal(torch.zeros(site.kernel_shape), 0.1)

class Positive(Prior):
    def distribution(self, site):
        return HalfNormal(torch.ones(site.kernel_shape)).to_event(len(site.kernel_shape))

class Misnames(MeanField):
    def distribution(self, name):
        return Normal(self.parameter("means", name), 0.1).to_event(5)

class Undeclared(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv3d(1, 2, 3, padding=1))

class Half(Undeclared):
    classes = 2
"""
OUT_OF_BOUNDS = {  # script → settings that are said to be what they are
    "svi_target": """schedule.epochs=0 schedule.batch_size=0 schedule.threshold=.nan train=0 validation=-1 test=-1 folds=1 fold=1
        samples=0 samples=1000000000 draws=0 draws=100000000 kl_weight=-1 kl_weight=.nan kernels_per_group=0 warm_up=-1
        clip_norm=0 initial_scale=0 guide.relative_scale=-1""",
    "train_source": "validation=-1 networks=0 cycles=0 threads=0",
    "train_prior": "held_out=1.5 validation=-1 test_share=2 bound_draws=0 family.latent=0",
    "collect_kernels": "held_out=2",
    "predict": "samples=0 overlap=1",
}
MISTAKES = {  # script and flags → tokens that name what is wrong, and the cure
    # Names and values of settings.
    "svi_target --kl_wight 1": ["kl_wight", "'kl_weight'"],
    "svi_target --config quick --config {bad}/flag.yaml": ["flag.yaml", "schedule.epoch", "'epochs'"],
    "svi_target --start source": ["--source"],
    "svi_target --config quick --config methods/unet_r": ["methods/unet_r", "'methods/unet_ri'"],
    "svi_target --config quick --config methods/unet_pr": ["source", "@source/networks", "placeholder", "--source PATH"],
    "svi_target --guide auto --guide.settings '{{rank: 3}}'": ["rank", "--guide.settings"],
    "svi_target --preprocess.spacing [8,8,8]": ["spacing", "grid"],
    "svi_target --network.in_channels 2": ["1 channel(s)", "2", "in_channels"],
    "svi_target --network.ndim 4": ["ndim", "4"],
    "svi_target --preprocess.grid [16,16,1]": ["(16, 16, 1)", "--network.ndim 2"],
    "svi_target --estimator flipout --guide auto --guide.family AutoDelta": ["Flipout", "--estimator"],
    "svi_target --name taken.txt/a": ["runs/taken.txt/a", "another --name"],
    "svi_target --name taken.txt": ["runs/taken.txt", "another --name"],
    "svi_target --device gpu": ["device", "gpu"],
    "train_source --device cuda:99": ["device", "cuda:99"],
    "collect_kernels --minimum_norm 1000": ["'1'", "1000"],
    "collect_kernels --sources []": ["sources"],
    "predict --window [0,8,8]": ["window.0 is 0"],
    "svi_target --patch [0,8,8]": ["patch.0 is 0"],
    # Unknown names of classes; the legal ones follow.
    "svi_target --guide unheard_of": ["guide", "auto, channel_covariance, dropout, ensemble, kernel_covariance, latent"],
    # Files and folders.
    "svi_target --prior deep_weight --prior.path {bad}/5.safetensors": ["5.safetensors", "(5, 5, 5)", "(3, 3, 3)", "train_prior"],
    "svi_target --prior deep_weight --prior.path {chain}/prior/prior.safetensors --network.channels [2,2,2,2]":
        ["prior.safetensors", "1, 2, 3", "train_prior"],
    "svi_target --prior deep_weight --prior.path {bad}/absent.safetensors": ["absent.safetensors", "not exist", "train_prior"],
    "svi_target --prior deep_weight --prior.path {bad}/half.safetensors": ["half.safetensors", "train_prior"],
    "svi_target --prior deep_weight --prior.path {chain}/kernels/bank.safetensors": ["kernel bank", "train_prior"],
    "svi_target --prior pretrained --prior.path {bad}/runs": ["{bad}/runs", "is a folder", "network.safetensors"],
    "svi_target --start source --source {bad}/network-00-cycle-0.safetensors": ["(8, 4, 3, 3, 3)", "(6, 4, 3, 3, 3)"],
    "train_prior --bank {bad}/absent.safetensors": ["absent.safetensors", "not exist", "collect_kernels"],
    "train_prior --bank {chain}/kernels": ["{chain}/kernels", "is a folder", "bank.safetensors", "collect_kernels"],
    "collect_kernels --sources {chain}/target": ["{chain}/target", "train_source"],
    "collect_kernels --sources {bad}": ["{bad}", "not the folder of a run"],
    "collect_kernels --sources {bad}/source": ["network-00-cycle-0.safetensors", "shape", "config.yaml"],
    "predict --run {bad}": ["{bad}", "config.yaml", "folder"],
    "predict --run {chain}/source": ["{chain}/source", "svi_target.py"],
    "predict --run {bad}/architecture": ["architecture/checkpoint/last.safetensors", "shape", "config.yaml"],
    "predict --run {bad}/truncated": ["truncated/checkpoint/last.safetensors", "restore"],
    "predict --run {bad}/none": ["none/checkpoint/last.safetensors", "train"],
    "predict --run {bad}/no_sites": ["no_sites/sites.json"],
    "predict --images absent.nii.gz": ["absent.nii.gz", "not exist"],
    "predict --output {bad}/notes.txt": ["notes.txt", "another"],
    "predict --output {images}": ["{images}", "the folder of the scans"],
    "predict --output {chain}/../maps": ["maps", "--overwrite"],
    "evaluate --output {bad}/notes.txt": ["notes.txt", "another"],
    "svi_target --data folder_pairs --data.images {images}": ["label", "folder of labels"],
    "svi_target --test 40": ["40 to test", "are 6", "fewer"],
    "svi_target --test 0": ["none", "--test", "--score"],
    "svi_target --patients 'tumour_(..)'": ["tumour_000", "tumour_(..)"],
    "svi_target --split {bad}/notes.txt": ["notes.txt", "a split"],
    "train_source --patients {bad}/notes.csv": ["notes.csv", "patients"],
    "svi_target --data decathlon --data.folder {images}": ["{images}/dataset.json", "folder_pairs"],
    "svi_target --data decathlon --data.folder {bad}": ["{bad}/dataset.json", "label", "Add"],
    "svi_target --data decathlon --data.folder '${{NOT_SET}}/lgg'": ["NOT_SET", "export"],
    # Classes of one's own.
    "svi_target --prior {bad}/mine.py:Silent": ["Silent", "'init_conv.weight'"],
    "svi_target --prior {bad}/mine.py:Positive": ["Positive", "no density"],
    "svi_target --guide {bad}/mine.py:Misnames": ["means", "'mean'"],
    "svi_target --network {bad}/mine.py:Undeclared": ["Undeclared", "self.classes"],
    "svi_target --network {bad}/mine.py:Half": ["Half", "self.in_channels"],
    "svi_target --prior assigned --prior.rules '[{{name: up*}}, {{kernel_size: 3, prior: gaussian}}]'": ["prior.rules.0"],
    "svi_target --prior assigned --prior.rules '[{{kernel_size: 1, prior: gaussian}}]'":
        ["'init_conv.weight'", "3x3x3", "1. kernel_size 1: Gaussian"],
}  # fmt: skip


@pytest.fixture(scope="module")
def places(chain: Path, nifti_tumours: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders that the table names; bad has files that do not fit, damaged runs and classes that do not work."""
    folder, runs = tmp_path_factory.mktemp("bad"), chain / "runs"
    texts = {"mine.py": MINE, "flag.yaml": "schedule: {epoch: 1}", "notes.txt": "Mine."}
    texts["dataset.json"] = '{"training": [{"image": "images/a.nii.gz"}]}'
    for name, text in texts.items():
        (folder / name).write_text(text)
    save_prior(folder / "5.safetensors", {g: DeepWeightDensity((5, 5, 5), latent=2, hidden=4) for g in "123"}, {})
    whole = (runs / "prior" / "prior.safetensors").read_bytes()
    (folder / "half.safetensors").write_bytes(whole[: len(whole) // 2])
    write_tensors(folder / "runs" / "network.safetensors", "network", {"x": torch.zeros(1)}, {})
    shutil.copytree(runs / "source", folder / "source")
    for path in (folder, folder / "source" / "networks"):
        save_network(path / "network-00-cycle-0.safetensors", UNet(channels=(4, 6)), {"network": 0})
    for name in ("architecture", "truncated", "none", "no_sites"):
        shutil.copytree(runs / "target", folder / name)
    config = yaml.safe_load((folder / "architecture" / "config.yaml").read_text())
    config["network"]["channels"] = [4, 6]
    (folder / "architecture" / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "truncated" / "checkpoint" / "last.safetensors").write_bytes(whole[:1000])
    (folder / "none" / "checkpoint" / "last.safetensors").unlink()
    (folder / "no_sites" / "sites.json").unlink()
    return {"bad": folder, "chain": runs, "images": nifti_tumours / "images"}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_with_its_cure_and_leaves_nothing(refused, small, places, tmp_path, mistake):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "taken.txt").write_text("Mine.")
    script, *flags = shlex.split(mistake.format(**places))
    refused([token.format(**places) for token in MISTAKES[mistake]], script, *small[script], *flags)


@pytest.mark.parametrize(
    ("script", "setting"), [(script, setting) for script, listed in OUT_OF_BOUNDS.items() for setting in listed.split()]
)
def test_a_number_out_of_bounds_is_named(refused, small, script, setting):
    key, _, value = setting.partition("=")
    refused([key, value.strip(".")], script, *small[script], f"--{key}", value)


def test_what_a_mistake_would_have_replaced_is_still_there(refused, small, target, tmp_path):
    shutil.copytree(target, tmp_path / "runs" / "target")
    flags = ["--name", "target"]
    refused(["runs/target", "0.5"], "svi_target", *flags, "--resume", "--kl_weight", "0.5")
    refused(["runs/target", "--resume", "--overwrite"], "svi_target", *small["svi_target"], *flags)
    refused(["40 cases"], "svi_target", *small["svi_target"], *flags, "--overwrite", "--train", "40")


@pytest.mark.parametrize("script", ["svi_target", "train_source", "collect_kernels", "train_prior"])
@pytest.mark.parametrize("runs", ["a file", "not writable"])
def test_runs_that_cannot_hold_one_are_named_first(refused, small, tmp_path, monkeypatch, script, runs):
    (tmp_path / "runs").write_text("") if runs == "a file" else (tmp_path / "runs").mkdir()
    monkeypatch.setattr("os.access", lambda path, mode: False)
    refused([str(tmp_path / "runs")], script, *small[script])
