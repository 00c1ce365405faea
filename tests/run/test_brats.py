"""Four sequences, three labels and nested regions from the first flag to the last score, under a prior from one sequence."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt, label

from pyro_dwp.data import Phantoms, read_label, write_volume
from pyro_dwp.metrics import dice, iou
from pyro_dwp.safe_yaml import read_yaml

SLOW_FLOW = pytest.param("flow", marks=pytest.mark.slow)
CONFIG = read_yaml(Path(__file__).parents[2] / "run" / "configs" / "brats.yaml")["preprocess"]
REGIONS = CONFIG["structures"]  # whole tumour, tumour core, enhancing tumour
NETWORK = ["--network", "unet", "--network.in_channels", "4", "--network.classes", "4"]
BRIEF = [
    "--train",
    "2",
    "--validation",
    "1",
    "--test",
    "2",
    "--samples",
    "2",
    "--threads",
    "1",
    "--schedule.epochs",
    "1",
]
PREPROCESS = ["--preprocess.grid", "[16,16,16]", "--preprocess.label_map", str(CONFIG["label_map"])]


@pytest.fixture(scope="module")
def brats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with images/NAME_0000 to NAME_0003 and labels/NAME of five tumours: enhancing (4) in core (1) in oedema (2)."""
    folder, phantoms = tmp_path_factory.mktemp("brats"), Phantoms(cases=5, shape=(20, 20, 20))
    for name in phantoms.names():
        scan = phantoms.load(name)
        image, whole = scan.image[0].numpy(), scan.label.numpy() > 0
        depth = distance_transform_edt(whole)
        core, enhancing = (depth >= np.quantile(depth[whole], level) for level in (0.4, 0.8))
        labels = np.select([enhancing & whole, core & whole, whole], [4, 1, 2])
        sequences = image, image * (1 - 0.3 * core), image * (1 + enhancing), np.where(image, image.max() - image, 0)
        for number, sequence in enumerate(sequences):
            write_volume(folder / "images" / f"{name}_{number:04d}.nii.gz", sequence, scan.affine)
        write_volume(folder / "labels" / f"{name}.nii.gz", labels, scan.affine, np.uint8)
    return folder


@pytest.fixture(scope="module")
def trained(finished, brats, tmp_path_factory) -> tuple[Path, str]:
    """A run's folder, and what it printed."""
    folder = tmp_path_factory.mktemp("trained")
    flags = ["--data", "folder_pairs", "--data.images", brats / "images", "--data.labels", brats / "labels"]
    flags += [*PREPROCESS, "--preprocess.structures", json.dumps(REGIONS), *NETWORK, *BRIEF, "--name", "run"]
    done = finished(folder, "svi_target", *flags, "--maps", "probability,entropy,structure_entropy")
    return folder / "runs" / "run", done.out


def scores(folder: Path) -> dict[str, dict[str, float]]:
    return json.loads((folder / "metrics.json").read_text())["test"]["cases"]


def test_each_region_is_scored_as_the_union_of_its_labels(trained, brats):
    folder, said = trained
    for name, row in scores(folder).items():
        mask, truth = (
            read_label(folder / "predictions" / f"{name}_mask.nii.gz"),
            read_label(brats / "labels" / f"{name}.nii.gz"),
        )
        assert {*mask.unique().tolist()} <= {0, 1, 2, 4}
        for region, labels in REGIONS.items():
            pair = [sum(volume == value for value in labels) for volume in (mask, truth)]
            assert row[f"dice_{region}"] == dice(*pair)[1]
            assert row[f"iou_{region}"] == iou(*pair)[1]
        assert row["dice"] == pytest.approx(np.mean([row[f"dice_{region}"] for region in REGIONS]))
    last = said.splitlines()[-1]
    assert [region for region in REGIONS if f"{region} 0." in last] == [*REGIONS]


def test_maps_are_of_regions_and_nested_as_they_are(trained):
    folder = trained[0] / "predictions"
    name = next(iter(scores(trained[0])))
    load = lambda kind: nib.load(folder / f"{name}_{kind}.nii.gz").get_fdata()  # noqa: E731
    p = [load(f"probability_{region.replace(' ', '_')}") for region in REGIONS]
    h = [load(f"entropy_{region.replace(' ', '_')}") for region in REGIONS]
    assert (p[0] >= p[1]).all()
    assert (p[1] >= p[2]).all()
    for probability, entropy in zip(p, h, strict=True):
        exact = -(
            probability * np.log(probability.clip(1e-9)) + (1 - probability) * np.log((1 - probability).clip(1e-9))
        )
        assert np.abs(exact - entropy)[(probability > 0.05) & (probability < 0.95)].max() < 0.01
    assert load("entropy").max() <= np.log(4) + 1e-6


def test_evaluate_knows_the_regions_from_labels_json_or_from_a_flag(trained, finished, tmp_path, brats):
    run = trained[0]
    flags = ["--predictions", run / "predictions", "--truths", brats / "labels", "--allow_missing", "--output"]
    finished(tmp_path, "evaluate", *flags, "told")
    (tmp_path / "masks").mkdir()
    for path in (run / "predictions").glob("*_mask.nii.gz"):
        (tmp_path / "masks" / path.name).write_bytes(path.read_bytes())
    flags[1] = tmp_path / "masks"
    finished(tmp_path, "evaluate", *flags, "asked", "--structures", json.dumps(REGIONS))
    for place in ("told", "asked"):
        found = json.loads((tmp_path / place / "scores.json").read_text())["cases"]
        assert found.keys() == scores(run).keys()
        for name, row in found.items():
            assert row.items() <= scores(run)[name].items()
    assert "enhancing tumour" in finished(tmp_path, "evaluate", *flags[:-1], "--structures", json.dumps(REGIONS)).out


def test_predict_does_to_masks_what_the_run_did_unless_told_otherwise(trained, finished, tmp_path, brats):
    run = trained[0]
    predict = ["--run", run, "--images", brats / "images", "--output"]
    finished(tmp_path, "predict", *predict, "plain", "--maps", "[]")
    finished(
        tmp_path,
        "predict",
        *predict,
        "pieces",
        "--maps",
        "entropy",
        "--postprocess.largest",
        "whole tumour,tumour core",
    )
    for name in scores(run):
        file = f"{name}_mask.nii.gz"
        mask, before, pieces = (
            nib.load(path / file).get_fdata() for path in (run / "predictions", tmp_path / "plain", tmp_path / "pieces")
        )
        assert np.array_equal(mask, before)
        for region in ("whole tumour", "tumour core"):
            assert label(np.isin(pieces, REGIONS[region]), np.ones((3, 3, 3)))[1] <= 1
    kinds = {path.name.split("_", 2)[2] for path in (tmp_path / "pieces").glob("*.nii.gz")}
    assert kinds == {"mask.nii.gz", "entropy.nii.gz"}


def in_folders(brats: Path) -> list[object]:
    """Return the flags that read the cases from a folder of images and one of labels."""
    return ["--data", "folder_pairs", "--data.images", brats / "images", "--data.labels", brats / "labels", *PREPROCESS]


@pytest.mark.parametrize("prior", ["empirical", "mixture", "student_t --prior.per kernel", SLOW_FLOW])
def test_priors_over_kernels_do_not_mind_how_many_channels_their_source_had(
    trained, finished, brats, tmp_path, no_figures, prior
):
    if prior == "flow":
        pytest.importorskip("zuko")
    done = finished(tmp_path, "svi_target", *in_folders(brats), *NETWORK, *BRIEF, "--prior", *prior.split())
    assert ": label 1 0." in done.out.splitlines()[-1]


def test_a_region_of_labels_that_are_not_there_is_refused_before_the_scans_are_read(refused, brats):
    flags = [*in_folders(brats), *NETWORK]
    refused(
        ["'core'", "names 3", "[1, 2, 4]"], "svi_target", *flags, *BRIEF, "--preprocess.structures", "{core: [1, 3]}"
    )
    wrong = ["--preprocess.structures", "{core: [1, 4]}", "--postprocess.largest", "cor"]
    refused(["'cor'", "core"], "svi_target", *flags, *BRIEF, *wrong)
