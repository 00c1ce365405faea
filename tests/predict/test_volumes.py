"""Predictions brought back to the scan's grid and written to disk."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import Tensor

from pyro_dwp.data import Preprocess, Scan
from pyro_dwp.predict import (
    Network,
    Prediction,
    entropy,
    on_scan_grid,
    posterior_predictive,
    predict_scan,
    write_prediction,
)

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


def test_without_resampling_the_scan_grid_holds_the_networks_own_values(scan: Scan) -> None:
    preprocess = Preprocess()
    prepared = preprocess.apply(scan)
    raw = posterior_predictive(draw, prepared.image, samples=3, seed=0)
    restored = on_scan_grid(raw, prepared, preprocess)
    inside = tuple(slice(start, stop) for start, stop in prepared.box)
    torch.testing.assert_close(restored.probability[(slice(None), *inside)], raw.probability)
    torch.testing.assert_close(restored.entropy[inside], raw.entropy)
    torch.testing.assert_close(restored.mutual_information[inside], raw.mutual_information)


def test_outside_the_head_the_background_is_certain(scan: Scan) -> None:
    prediction = predict_scan(draw, scan, Preprocess(grid=(8, 8, 8)), samples=2, seed=0)
    air = scan.image[0] == 0
    assert (prediction.probability[0][air] == 1).all()
    assert (prediction.probability[1][air] == 0).all()
    assert (prediction.entropy[air] == 0).all()
    assert (prediction.mutual_information[air] == 0).all()


@pytest.mark.parametrize("grid", [(8, 8, 8), (16, 20, 12), (4, 10, 3)])
def test_resampled_maps_keep_their_bounds(scan: Scan, grid: tuple[int, int, int]) -> None:
    prediction = predict_scan(draw, scan, Preprocess(grid=grid), samples=4, seed=0)
    torch.testing.assert_close(prediction.probability.sum(0), torch.ones(scan.shape))
    torch.testing.assert_close(prediction.entropy, entropy(prediction.probability))
    assert (prediction.mutual_information >= 0).all()
    assert (prediction.mutual_information <= prediction.entropy + 1e-6).all()


@pytest.mark.parametrize("grid", [None, (4, 10, 3)])
def test_one_sample_has_no_mutual_information_on_the_scan_grid_either(
    scan: Scan, grid: tuple[int, int, int] | None
) -> None:
    prediction = predict_scan(draw, scan, Preprocess(grid=grid), samples=1, seed=0)
    assert prediction.entropy.max() > 0
    assert (prediction.mutual_information == 0).all()


def test_what_the_network_finds_lands_where_it_is_in_the_scan(scan: Scan) -> None:
    truth = scan.image[0] > 1.5
    prediction = predict_scan(lambda: bright, scan, Preprocess(), samples=1, seed=0)
    assert torch.equal(prediction.mask == 1, truth)


def test_files_have_the_scans_grid_affine_and_types(scan: Scan, tmp_path: Path) -> None:
    prediction = predict_scan(draw, scan, Preprocess(grid=(8, 8, 8)), samples=2, seed=0)
    paths = write_prediction(tmp_path / "new", "case", prediction, scan.affine)
    expected = {
        "mask": (prediction.mask, np.uint8),
        "probability": (prediction.probability[1], np.float32),
        "entropy": (prediction.entropy, np.float32),
        "mutual_information": (prediction.mutual_information, np.float32),
    }
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(f"case_{n}.nii.gz" for n in expected)
    for name, (values, dtype) in expected.items():
        image = nib.load(paths[name])
        assert image.get_data_dtype() == dtype
        np.testing.assert_allclose(image.affine, scan.affine, atol=1e-6)
        np.testing.assert_allclose(np.asarray(image.dataobj), values.numpy(), atol=1e-6)


def test_several_classes_have_one_probability_file_each(tmp_path: Path) -> None:
    probability = torch.rand(4, 3, 3, 3, generator=torch.Generator().manual_seed(0)).softmax(0)
    zeros = torch.zeros(3, 3, 3)
    paths = write_prediction(tmp_path, "case", Prediction(probability, zeros, zeros), np.eye(4))
    assert [name for name in paths if "probability" in name] == ["probability_1", "probability_2", "probability_3"]
    np.testing.assert_array_equal(np.asarray(nib.load(paths["probability_2"]).dataobj), probability[2].numpy())
