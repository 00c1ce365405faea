"""Predictions brought back to the scan's grid and written to disk."""

from unittest.mock import Mock

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import Tensor

from pyro_dwp.data import Preprocess, Scan, read_scan, write_volume
from pyro_dwp.metrics import entropy
from pyro_dwp.predict import (
    MaskLabels,
    Network,
    Prediction,
    check_output,
    on_scan_grid,
    posterior_predictive,
    predict_scan,
    write_prediction,
)
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


@pytest.mark.parametrize("grid", [None, (8, 8, 8), (16, 20, 12), (4, 10, 3)])
def test_resampled_maps_keep_their_bounds_and_the_background_is_certain_outside_the_head(scan, grid):
    prediction, one = (predict_scan(draw, scan, Preprocess(grid=grid), samples=samples, seed=0) for samples in (4, 1))
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
    prediction = predict_scan(draw, scan, Preprocess(grid=grid), samples=4, seed=0)
    assert prediction.volumes.shape == (4,)
    assert prediction.volumes.std() > 0
    total = prediction.probability[1:].sum()
    assert prediction.volumes.mean() == pytest.approx(float(total), rel=1e-5 if grid is None else 0.05)


def test_what_the_network_finds_lands_where_it_is_in_the_scan(scan):
    prediction = predict_scan(lambda: bright, scan, Preprocess(), samples=1, seed=0)
    assert torch.equal(prediction.mask == 1, scan.image[0] > 1.5)


@pytest.mark.parametrize("stored", [False, True])
def test_files_have_the_scans_grid_affine_and_types(scan, tmp_path, stored):
    if stored:  # along other axes than RAS
        scan = read_scan("case", [write_volume(tmp_path / "case.nii.gz", scan.image[0], AFFINE)])
    prediction = predict_scan(draw, scan, Preprocess(grid=(8, 8, 8)), samples=2, seed=0)
    paths = write_prediction(tmp_path / "new", prediction, scan, Preprocess())
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


@pytest.mark.parametrize(("label", "dtype"), [(4, np.uint8), (300, np.uint16), (10**9, np.uint32)])
def test_a_mask_holds_the_labels_of_the_user_and_probabilities_are_named_by_them(tmp_path, label, dtype):
    probability = torch.rand(4, 3, 3, 3, generator=torch.Generator().manual_seed(0)).softmax(0)
    zeros, scan = torch.zeros(3, 3, 3), Scan("case", torch.zeros(1, 3, 3, 3), None, np.eye(4))
    preprocess = Preprocess(label_map={1: 1, 2: 2, label: 3})
    paths = write_prediction(tmp_path, Prediction(probability, zeros, zeros), scan, preprocess)
    assert [name[12:] for name in paths if "probability" in name] == ["1", "2", str(label)]
    np.testing.assert_array_equal(np.asarray(nib.load(paths["probability_2"]).dataobj), probability[2].numpy())
    mask = nib.load(paths["mask"])
    assert mask.get_data_dtype() == dtype
    np.testing.assert_array_equal(mask.dataobj, torch.tensor([0, 1, 2, label])[probability.argmax(0)])


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
