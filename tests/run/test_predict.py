"""run/predict.py: any NIfTI in, maps on its own grid out."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from pyro_dwp.data import Phantoms, write_volume

Call = Callable[..., Any]
MAPS = ("mask", "probability", "entropy", "mutual_information")


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two scans: one turned and flipped against the scanner's axes, both of other shapes than the grid."""
    folder = tmp_path_factory.mktemp("scans")
    turned = np.array([[0.0, -2.6, 1.5, 40], [-3.0, 0, 0, 12], [0, -1.5, -2.6, -7], [0, 0, 0, 1]])
    straight = np.diag([-4.0, 3.0, 5.0, 1.0])
    for name, shape, affine in (("turned", (19, 14, 12), turned), ("straight", (12, 21, 16), straight)):
        image = Phantoms(cases=1, shape=shape).load("tumour_000").image[0]
        write_volume(folder / f"{name}.nii.gz", image, affine, np.float32)
    return folder


@pytest.fixture
def predict(finished: Call, chain: Path, scans: Path, tmp_path: Path) -> Call:
    """Return a function that predicts the scans with these flags, and returns map → array of the turned one."""

    def run(*flags: object, images: Path = scans, name: str = "turned") -> dict[str, np.ndarray]:
        run_folder = chain / "runs" / "target"
        finished(tmp_path, "predict", "--run", run_folder, "--images", images, "--output", "maps", *flags)
        return {kind: nib.load(tmp_path / "maps" / f"{name}_{kind}.nii.gz").get_fdata() for kind in MAPS}

    return run


def test_maps_have_the_grid_affine_and_orientation_of_their_scan(predict: Call, scans: Path, tmp_path: Path) -> None:
    predict()
    for name in ("turned", "straight"):
        scan = nib.load(scans / f"{name}.nii.gz")
        for kind in MAPS:
            found = nib.load(tmp_path / "maps" / f"{name}_{kind}.nii.gz")
            assert found.shape == scan.shape
            assert np.allclose(found.affine, scan.affine, atol=1e-5)
            assert nib.aff2axcodes(found.affine) == nib.aff2axcodes(scan.affine)


def test_a_folder_of_scans_leaves_four_maps_each_and_nothing_else(predict: Call, tmp_path: Path) -> None:
    predict()
    expected = {f"{name}_{kind}.nii.gz" for name in ("turned", "straight") for kind in MAPS}
    assert {path.name for path in (tmp_path / "maps").iterdir()} == expected


def test_maps_agree_with_each_other(predict: Call, chain: Path) -> None:
    maps = predict("--samples", 5)
    assert set(np.unique(maps["mask"])) <= {0, 1}
    assert np.array_equal(maps["mask"], maps["probability"] > 0.5)
    assert ((maps["probability"] >= 0) & (maps["probability"] <= 1)).all()
    assert (maps["mutual_information"] >= 0).all()
    assert (maps["mutual_information"] <= maps["entropy"] + 1e-6).all()
    assert maps["entropy"].max() <= math.log(2) + 1e-6
    assert maps["mutual_information"].max() > 0


def test_predictions_depend_on_the_seed_alone(predict: Call) -> None:
    first, again, other = predict("--seed", 3), predict("--seed", 3), predict("--seed", 4)
    assert all(np.array_equal(first[kind], again[kind]) for kind in MAPS)
    assert not np.array_equal(first["probability"], other["probability"])


def test_one_scan_alone_is_predicted_as_it_is_among_others(predict: Call, scans: Path) -> None:
    together, alone = predict(), predict(images=scans / "turned.nii.gz")
    assert all(np.array_equal(together[kind], alone[kind]) for kind in MAPS)


def test_one_sample_tells_nothing_of_the_weights(predict: Call) -> None:
    assert not predict("--samples", 1)["mutual_information"].any()


def test_a_window_as_large_as_the_grid_changes_nothing_and_a_smaller_one_runs(predict: Call) -> None:
    whole = predict()
    assert np.array_equal(predict("--window", "[16,16,16]")["probability"], whole["probability"])
    assert predict("--window", "[8,8,12]", "--overlap", "0.5")["probability"].shape == whole["probability"].shape


def test_the_last_line_counts_the_scans_and_names_the_folder(chain: Path) -> None:
    assert (chain / "predict.txt").read_text().splitlines()[-1] == "6 scan(s) predicted: maps"


def test_a_run_that_was_moved_still_predicts(
    finished: Call, chain: Path, scans: Path, tmp_path: Path, predict: Call
) -> None:
    before = predict()
    shutil.copytree(chain / "runs" / "target", tmp_path / "moved")
    image = scans / "turned.nii.gz"
    finished(tmp_path, "predict", "--run", "moved", "--images", image, "--output", "again")
    again = nib.load(tmp_path / "again" / "turned_probability.nii.gz").get_fdata()
    assert np.array_equal(again, before["probability"])
