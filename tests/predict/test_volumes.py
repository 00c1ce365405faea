"""Predictions brought back to the scan's grid and written to disk."""

from unittest.mock import Mock

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import Tensor

from pyro_dwp.data import Preprocess, Scan, read_scan, scan_files, write_volume
from pyro_dwp.data.nifti import load_nifti
from pyro_dwp.data.paths import RESULT
from pyro_dwp.metrics import entropy
from pyro_dwp.predict import (
    MaskLabels,
    Network,
    Postprocess,
    Prediction,
    Predictor,
    check_output,
    on_scan_grid,
    posterior_predictive,
    write_prediction,
)
from pyro_dwp.predict.volumes import KEPT
from tests.helpers.refusal import refuses

AFFINE = np.array([[0, -2.0, 0, 10], [1.5, 0, 0, -20], [0, 0, 3.0, 5], [0, 0, 0, 1]])


@pytest.fixture
def scan() -> Scan:
    """A head of 9 x 10 x 7 voxels in air; its brighter half is what `draw` finds."""
    image = torch.zeros(1, 13, 14, 9)
    image[:, 2:11, 3:13, 1:8] = 1 + 0.1 * torch.rand(9, 10, 7, generator=torch.Generator().manual_seed(0))
    image[:, 2:7, 3:13, 1:8] += 1
    return Scan("case", image, None, AFFINE)


def bright(x: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(x), 20 * x], dim=1)


def draw() -> Network:
    weight = 1 + torch.rand(())
    return lambda x: weight * bright(x)


def maps(prediction: Prediction) -> Tensor:
    """Return every map of a prediction, (C + 2, D, H, W)."""
    return torch.cat([prediction.probability, prediction.entropy[None], prediction.mutual_information[None]])


def test_without_resampling_the_scan_grid_holds_the_networks_own_values(scan):
    preprocess = Preprocess()
    prepared = preprocess.apply(scan)
    raw = posterior_predictive(draw, prepared.image, samples=3, seed=0)
    restored = maps(on_scan_grid(raw, prepared, preprocess))
    inside = tuple(slice(start, stop) for start, stop in prepared.box)
    torch.testing.assert_close(restored[(slice(None), *inside)], maps(raw))


@pytest.mark.parametrize("grid", [None, (8, 8, 8), (16, 20, 12), (4, 10, 3), (13, 14, 9)])
def test_resampled_maps_keep_their_bounds_and_the_background_is_certain_outside_the_head(scan, grid):
    prediction, one = (Predictor(draw, Preprocess(grid=grid), samples=samples).predict(scan) for samples in (4, 1))
    torch.testing.assert_close(prediction.probability.sum(0), torch.ones(scan.shape))
    torch.testing.assert_close(prediction.entropy, entropy(prediction.probability))
    assert (prediction.mutual_information >= 0).all()
    assert (prediction.mutual_information <= prediction.entropy + 1e-6).all()
    assert one.entropy.max() > 0
    assert (one.mutual_information == 0).all()
    certain = torch.tensor([1.0, 0, 0, 0])[:, None]
    assert (maps(prediction)[:, scan.image[0] == 0] == certain).all()


@pytest.mark.parametrize("grid", [None, (8, 8, 8), (16, 20, 12)])
def test_each_samples_volume_is_counted_in_the_scans_voxels(scan, grid):
    """Interpolation keeps the sum up to its error at the edges of the crop."""
    prediction = Predictor(draw, Preprocess(grid=grid), samples=4).predict(scan)
    assert prediction.volumes.shape == (4, 2)
    assert prediction.volumes[:, 1].std() > 0
    total = prediction.probability[1:].sum()
    assert prediction.volumes[:, 1].mean() == pytest.approx(float(total), rel=1e-5 if grid is None else 0.05)


@pytest.mark.parametrize(("samples", "draws"), [(3, 3), (KEPT + 1, 2 * (KEPT + 1))])
def test_networks_that_are_kept_for_the_next_scan_are_those_that_would_be_drawn_again(scan, samples, draws):
    counted = Mock(side_effect=draw)
    predictor = Predictor(counted, Preprocess(), samples, seed=2)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, second = predictor.predict(scan), predictor.predict(scan)
    assert torch.equal(torch.get_rng_state(), state)
    assert counted.call_count == draws
    fresh = posterior_predictive(draw, Preprocess().apply(scan).image, samples, seed=2)
    expected = maps(on_scan_grid(fresh, Preprocess().apply(scan), Preprocess()))
    assert torch.equal(maps(first), expected)
    assert torch.equal(maps(second), expected)


def test_what_the_network_finds_lands_where_it_is_in_the_scan(scan):
    prediction = Predictor(lambda: bright, Preprocess(), samples=1).predict(scan)
    assert torch.equal(prediction.mask == 1, scan.image[0] > 1.5)


@pytest.mark.parametrize("stored", [False, True])
def test_files_have_the_scans_grid_affine_and_types(scan, tmp_path, stored):
    if stored:  # along other axes than RAS
        scan = read_scan("case", [write_volume(tmp_path / "case.nii.gz", scan.image[0], AFFINE)])
    prediction = Predictor(draw, Preprocess(grid=(8, 8, 8)), samples=2).predict(scan)
    paths = write_prediction(tmp_path / "new", prediction, scan, Preprocess(), precision="float32")
    names = ["probability", "entropy", "mutual_information", "mask"]
    files = [*(f"case_{name}.nii.gz" for name in names), "labels.json"]
    assert {path.name for path in (tmp_path / "new").iterdir()} == {*files}
    expected = torch.cat([maps(prediction)[1:], prediction.mask[None]])
    for name, values in zip(names, expected, strict=True):
        image = nib.load(paths[name])
        assert image.get_data_dtype() == (np.uint8 if name == "mask" else np.float32)
        np.testing.assert_allclose(image.affine, AFFINE, atol=1e-6)
        turned = read_scan("a", [paths[name]]).image[0] if stored else image.get_fdata(dtype=np.float32)
        np.testing.assert_allclose(turned, values, atol=1e-6)


TILT, ROLL = 0.4, 0.7
TURNED = np.array([[np.cos(ROLL), -np.sin(ROLL), 0], [np.sin(ROLL), np.cos(ROLL), 0], [0, 0, 1]])
TURNED = TURNED @ np.array([[1, 0, 0], [0, np.cos(TILT), -np.sin(TILT)], [0, np.sin(TILT), np.cos(TILT)]])
PLACES = {
    "rotated": (TURNED, (13, 14, 9)),
    "oblique and anisotropic": (TURNED @ np.diag([0.5, 0.7, 6.0]), (13, 14, 9)),
    "sheared": (np.array([[1, 0.3, 0], [0, 1, 0.2], [0, 0, 2.0]]), (13, 14, 9)),
    "sagittal, left-handed": (np.array([[0, 0, 2.0], [-1, 0, 0], [0, -1, 0]]), (13, 14, 9)),
    "two slices": (TURNED[:, ::-1] @ np.diag([0.5, 0.5, 8.0]), (13, 14, 2)),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("extension", [".nii", ".nii.gz"])
def test_a_mask_lies_on_the_stored_voxels_of_its_scan_whichever_way_it_was_acquired(tmp_path, place, extension):
    matrix, shape = PLACES[place]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = matrix, (10, -20, 30)
    stored = np.random.default_rng(0).choice([0.5, 1.0, 2.0], shape).astype(np.float32)
    image = nib.Nifti1Image(stored, affine)
    image.set_sform(affine, code=1)
    nib.save(image, tmp_path / f"a{extension}")
    scan = read_scan("a", [tmp_path / f"a{extension}"])
    threshold = lambda x: torch.cat([torch.zeros_like(x), 20 * (x - (1.5 - stored.mean()) / stored.std())], dim=1)  # noqa: E731
    prediction = Predictor(lambda: threshold, Preprocess(), samples=1, postprocess=Postprocess()).predict(scan)
    paths = write_prediction(tmp_path / "new", prediction, scan, Preprocess())
    for name in ("mask", "probability"):
        found = nib.load(paths[name])
        np.testing.assert_array_equal(found.get_fdata() > 0.5, stored > 1.5)
        np.testing.assert_array_equal(found.affine, nib.load(tmp_path / f"a{extension}").affine)


@pytest.mark.parametrize(("label", "dtype"), [(4, np.uint8), (300, np.uint16), (10**9, np.uint32)])
def test_a_mask_holds_the_labels_of_the_user_and_probabilities_are_named_by_them(tmp_path, label, dtype):
    probability = torch.rand(4, 3, 3, 3, generator=torch.Generator().manual_seed(0)).softmax(0)
    zeros, scan = torch.zeros(3, 3, 3), Scan("case", torch.zeros(1, 3, 3, 3), None, np.eye(4))
    preprocess = Preprocess(label_map={1: 1, 2: 2, label: 3})
    paths = write_prediction(tmp_path, Prediction(probability, zeros, zeros), scan, preprocess, precision="float32")
    assert [name[12:] for name in paths if "probability" in name] == ["1", "2", str(label)]
    np.testing.assert_array_equal(np.asarray(nib.load(paths["probability_2"]).dataobj), probability[2].numpy())
    mask = nib.load(paths["mask"])
    assert mask.get_data_dtype() == dtype
    np.testing.assert_array_equal(mask.dataobj, torch.tensor([0, 1, 2, label])[probability.argmax(0)])


def test_maps_of_8_bits_hold_their_values_to_half_a_step_and_keep_each_decision(tmp_path):
    edge = np.float32(0.5)
    close = [edge, np.nextafter(edge, np.float32(0)), np.nextafter(edge, np.float32(1)), 0.0, 1.0, 1e-9]
    p = torch.cat([torch.tensor(close), torch.rand(994, generator=torch.Generator().manual_seed(0))]).reshape(
        10, 10, 10
    )
    probability = torch.stack([1 - p, p])
    prediction = Prediction(probability, entropy(probability), 0.01 * entropy(probability))
    scan = Scan("case", p[None], None, AFFINE)
    paths = write_prediction(tmp_path, prediction, scan, Preprocess())
    largest = {"probability": 1.0, "entropy": np.log(2), "mutual_information": 0.01 * np.log(2)}
    for (name, most), values in zip(largest.items(), maps(prediction)[1:], strict=True):
        image = nib.load(paths[name])
        assert image.get_data_dtype() == np.uint8
        np.testing.assert_allclose(image.get_fdata(), values, atol=most / 510 * 1.0001)
        np.testing.assert_array_equal(load_nifti(paths[name]).voxels[0], turned(image.get_fdata(dtype=np.float32)))
    np.testing.assert_array_equal(nib.load(paths["probability"]).get_fdata() > 0.5, p > 0.5)


def turned(stored: np.ndarray) -> np.ndarray:
    """Return voxels along the axes of `AFFINE` in RAS order."""
    return stored.swapaxes(0, 1)[::-1]


@pytest.mark.parametrize("structures", [None, {"all of it": [1, 4], "core": [4]}, {"all": [1, 4]}])
def test_maps_are_written_by_name_and_a_structure_has_the_sum_of_its_classes(tmp_path, structures):
    probability = torch.rand(3, 4, 5, 6, generator=torch.Generator().manual_seed(0)).softmax(0)
    preprocess = Preprocess(label_map={1: 1, 4: 2}, structures=structures)
    scan = Scan("case", probability[:1], None, np.eye(4))
    kinds = ("structure_entropy", "probability")
    prediction = Prediction(probability, entropy(probability), entropy(probability))
    paths = write_prediction(tmp_path, prediction, scan, preprocess, kinds, "float32")
    names = {None: ["1", "4"], 2: ["all_of_it", "core"], 1: ["all"]}[structures and len(structures)]
    only = len(names) == 1
    assert [*paths] == [
        "mask",
        *(f"entropy_{name}" for name in names),
        *(f"probability_{name}"[: 11 if only else None] for name in names),
    ]
    for name, members in zip(names, preprocess.classes_of_structures(3).values(), strict=True):
        p = probability[list(members)].sum(0)
        found = nib.load(paths["probability" if only else f"probability_{name}"]).get_fdata()
        np.testing.assert_allclose(found, p, atol=1e-6)
        np.testing.assert_allclose(
            nib.load(paths[f"entropy_{name}"]).get_fdata(), entropy(torch.stack([1 - p, p])), atol=1e-5
        )
    assert not [path for path in scan_files(tmp_path, results=True) if not RESULT.fullmatch(path)]


def test_an_output_folder_is_checked_before_anything_is_computed(tmp_path, scan, monkeypatch):
    scans, output, file = tmp_path / "scans", tmp_path / "new" / "masks", tmp_path / "file"
    write_volume(scans / "case.nii.gz", scan.image[0], AFFINE)
    (tmp_path / "link").symlink_to(scans)
    file.touch()
    kept, merged = MaskLabels("labels", None), MaskLabels("classes", {1: 1, 2: 1})
    own = (scans, tmp_path / "link", scans / ".." / "scans")
    pairs = [(place, inputs) for place in own for inputs in (scans, scans / "case.nii.gz")]
    for place, inputs in [*pairs, (file, scans), (file / "below", scans)]:
        with refuses(str(place), "another output"):
            check_output(place, ["case"], inputs, True, kept)
    check_output(output, ["case"], scans, False, kept)
    assert list(output.iterdir()) == []
    write_prediction(output, Prediction(torch.rand(2, 13, 14, 9), scan.image[0], scan.image[0]), scan, Preprocess())
    with refuses(str(output), "case_entropy.nii.gz", "--overwrite"):
        check_output(output, ["case"], scans, False, kept)
    check_output(output, ["case"], scans, True, merged)
    check_output(output, ["another"], scans, False, kept)
    with refuses(str(output / "labels.json"), "another output"):
        check_output(output, ["another"], scans, False, merged)
    monkeypatch.setattr("tempfile.TemporaryFile", Mock(side_effect=PermissionError(13, "Permission denied")))
    with refuses(str(output), "Permission denied"):
        check_output(output, ["another"], scans, False, kept)
