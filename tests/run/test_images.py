"""Two dimensions from one end to the other: PNG images, priors of 3x3 kernels, masks that lie on the images, stacks of slices."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pyro_dwp.data import FolderPairs, Phantoms, SplitPlan
from pyro_dwp.priors.store import load_prior

WIDTH, HEIGHT, SLICES = 20, 16, 3
NETWORK = ["--network", "unet", "--network.channels", "[4,8]", "--network.ndim", "2"]
GRID = ["--preprocess.grid", "[16,16,1]"]
BRIEF = ["--train", "2", "--validation", "1", "--schedule.epochs", "2"]
PHANTOMS = ["--data", "phantoms", "--data.cases", "6", "--data.shape", f"[{WIDTH},{HEIGHT},16]", "--data.flat", "true"]
SOURCE = [*PHANTOMS, "--data.disease", "plaques", *GRID, *NETWORK, *BRIEF, "--networks", "2", "--cycles", "2"]
LABELS = ["--data.labels", "labels", "--preprocess.label_map", "{255: 1}"]
TARGET = ["--data", "folder_pairs", "--data.images", "images", *LABELS, *NETWORK, *GRID, *BRIEF]
TARGET += ["--test", "2", "--samples", "2", "--threads", "1"]
FAMILIES = {  # flags of its fit, guides of the target network
    "deep_weight": ("--family.hidden 8 --family.latent 2 --bound_draws 3", ["latent", "mean_field"]),
    "empirical": ("--family.student_t", ["kernel_covariance"]),
    "mixture": ("--family.components 2", ["ensemble"]),
    "flow": ("--family.transforms 1 --family.hidden 8", ["point"]),
}


def save(path: Path, voxels: Tensor) -> None:
    """Write a slice (D, H), 8 or 16 bits, or (3, D, H), in colours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(voxels.numpy().T[::-1])).save(path)


@pytest.fixture
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyro_dwp.report.draw_run", lambda *arguments: None)
    monkeypatch.setattr("pyro_dwp.report.report_run", lambda folder: "")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of PNG files: images/ of 16 bits, labels/ of 0 and 255, colours/, and stacks/ with slices/ and labels/."""
    folder, flat = tmp_path_factory.mktemp("images"), Phantoms(cases=6, shape=(WIDTH, HEIGHT, 16), flat=True)
    for name in flat.names():
        scan = flat.load(name)
        image, label = scan.image[0, ..., 0], (255 * scan.label[..., 0]).to(torch.uint8)
        save(folder / "images" / f"{name}.png", (40 * image).to(torch.uint16))
        save(folder / "labels" / f"{name}.png", label)
        grey = 250 * image / image.max()
        save(folder / "colours" / f"{name}.png", torch.stack([grey, 250 - grey, grey / 2]).to(torch.uint8))
        for number in range(SLICES):
            save(folder / "stacks" / "slices" / name / f"{number}.png", (40 * image).roll(number).to(torch.uint16))
            save(folder / "stacks" / "labels" / name / f"{number}.png", label.roll(number))
    return folder


@pytest.fixture(scope="module")
def chain(finished, images, tmp_path_factory) -> Path:
    """Working folder with images/ and labels/, and runs of train_source.py and collect_kernels.py."""
    folder = shutil.copytree(images, tmp_path_factory.mktemp("chain"), dirs_exist_ok=True)
    finished(folder, "train_source", *SOURCE, "--name", "source")
    finished(folder, "collect_kernels", "--sources", "runs/source", "--name", "kernels")
    return folder


def predicted_again(finished, folder: Path, run: str, images: str, truths: str) -> Path:
    """Predict a folder with a run, check that evaluate.py finds the scores of the run, and return the folder of the masks."""
    finished(folder, "predict", "--run", f"runs/{run}", "--images", images, "--output", f"{run}/masks")
    finished(folder, "evaluate", "--predictions", f"{run}/masks", "--truths", truths, "--output", f"{run}/scores")
    found = json.loads((folder / run / "scores" / "scores.json").read_text())["cases"]
    expected = json.loads((folder / "runs" / run / "metrics.json").read_text())["test"]["cases"]
    assert len(expected) == 2
    for name, case in expected.items():
        assert found[name]["dice"] == pytest.approx(case["dice"])
    return folder / run / "masks"


@pytest.mark.usefixtures("_no_figures")
@pytest.mark.parametrize("family", FAMILIES)
def test_a_prior_of_3x3_kernels_leads_from_source_images_to_masks_that_are_scored(finished, chain, family):
    flags, guides = FAMILIES[family]
    bank = ["--bank", "runs/kernels/bank.safetensors", "--schedule.epochs", "2"]
    finished(chain, "train_prior", *bank, "--family", family, *flags.split(), "--name", family)
    path = f"runs/{family}/prior.safetensors"
    assert load_prior(chain / path).densities["1"].kernel_shape == (3, 3)
    for guide in guides:
        run = f"{family}-{guide}"
        finished(chain, "svi_target", *TARGET, "--prior", family, "--prior.path", path, "--guide", guide, "--name", run)
        masks = predicted_again(finished, chain, run, "images", "labels")
        mask = Image.open(masks / "tumour_000_mask.png")
        assert mask.size == (WIDTH, HEIGHT)
        assert {*np.unique(np.asarray(mask))} <= {0, 255}


@pytest.mark.usefixtures("_no_figures")
def test_a_network_of_two_dimensions_learns_from_stacks_of_slices_and_masks_are_stacks(finished, images, chain):
    (network, *_) = sorted((chain / "runs" / "source" / "networks").iterdir())
    stacks = ["--data.images", "stacks/slices", "--data.labels", "stacks/labels", "--preprocess.grid", "[16,16,3]"]
    source = ["--prior", "pretrained", "--prior.path", network, "--source", network, "--start", "source"]
    finished(chain, "svi_target", *TARGET, *stacks, *source, "--name", "stacks")
    masks = predicted_again(finished, chain, "stacks", "stacks/slices", "stacks/labels")
    assert [path.name for path in sorted((masks / "tumour_000_mask").iterdir())] == ["0.png", "1.png", "2.png"]


def test_colours_are_channels_and_the_figures_of_a_run_show_images(finished, images, tmp_path):
    folder = shutil.copytree(images, tmp_path, dirs_exist_ok=True)
    flags = ["--data.images", "colours", "--network.in_channels", "3", "--prior", "student_t"]
    finished(folder, "svi_target", *TARGET, *flags, "--name", "colours")
    predicted_again(finished, folder, "colours", "colours", "labels")
    assert len([*(folder / "runs" / "colours" / "figures").glob("tumour_*.png")]) == 2


BAD = {  # what is done to the image, flags, parts of the error
    "truncated": (lambda image: image.write_bytes(image.read_bytes()[:-200]), [], ["{image}", "again"]),
    "size": (lambda image: save(image, torch.arange(12).to(torch.uint8).reshape(4, 3)), [], ["{image}", "(4, 3, 1)"]),
    "colours": (
        lambda image: save(image, torch.rand(3, WIDTH, HEIGHT).mul(255).byte()),
        [],
        ["{image}", "3 channel(s)"],
    ),
    "JPEG": (lambda image: [it.rename(it.with_suffix(".jpg")) for it in image.parent.iterdir()], [], [".jpg", "PNG"]),
    "prior of 3x3x3 kernels": (None, ["--prior", "deep_weight"], ["(3, 3)", "(3, 3, 3)", "run/train_prior.py"]),
    "volumes": (None, ["--preprocess.grid", "[16,16,8]"], ["images/", "[width, height, 1]", "network.ndim"]),
    "3-D network": (None, ["--network.ndim", "3"], ["(16, 16, 1)", "--network.ndim 2"]),
}


@pytest.mark.parametrize("damage", BAD)
def test_what_cannot_be_learned_from_is_refused_before_a_run_begins(refused, images, tmp_path, damage):
    shutil.copytree(images, tmp_path, dirs_exist_ok=True)
    how, flags, parts = BAD[damage]
    case = SplitPlan(train=2, validation=1, test=2).draw(FolderPairs(str(tmp_path / "images")).names()).train[0]
    image = tmp_path / "images" / f"{case}.png"
    if how:
        how(image)
    refused(
        [part.format(image=f"images/{case}.png") for part in parts],
        "svi_target",
        *TARGET,
        "--prior",
        "gaussian",
        *flags,
    )
