"""Slices: which one, in which proportions."""

import numpy as np
import pytest
import torch
from torch import Tensor

from pyro_dwp.errors import ConfigError
from pyro_dwp.report import slices


@pytest.fixture
def volumes() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return scan, truth, prediction and uncertainty; truth is largest at W = 2, prediction at W = 4."""
    scan = torch.rand(6, 8, 5, generator=torch.Generator().manual_seed(0))
    truth, prediction = torch.zeros(2, 6, 8, 5, dtype=torch.int64)
    truth[1:4, 2:6, 2] = truth[1, 1, 1] = 1
    prediction[1:5, 2:7, 4] = 2
    return scan, truth, prediction, torch.rand(6, 8, 5) * 0.69


def titles(figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def test_four_panels_with_truth_and_three_without(volumes: tuple[Tensor, ...]) -> None:
    scan, truth, prediction, uncertainty = volumes
    assert titles(slices(scan, truth, prediction, uncertainty)) == ["Scan", "Truth", "Prediction", "Uncertainty"]
    assert titles(slices(scan, None, prediction, uncertainty)) == ["Scan", "Prediction", "Uncertainty"]


def test_the_slice_is_where_the_truth_is_largest(volumes: tuple[Tensor, ...]) -> None:
    scan, truth, prediction, uncertainty = volumes
    figure = slices(scan, truth, prediction, uncertainty, title="case")
    assert figure.get_suptitle() == "case, slice 3 of 5 along axis W"
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), scan[:, :, 2].T.numpy())


def test_without_truth_the_slice_is_where_the_prediction_is_largest(volumes: tuple[Tensor, ...]) -> None:
    scan, truth, prediction, uncertainty = volumes
    for missing in (None, torch.zeros_like(truth)):
        assert "slice 5 of 5" in slices(scan, missing, prediction, uncertainty).get_suptitle()


def test_without_any_foreground_the_slice_is_the_middle_one(volumes: tuple[Tensor, ...]) -> None:
    scan, truth, _, uncertainty = volumes
    assert "slice 3 of 5" in slices(scan, None, torch.zeros_like(truth), uncertainty).get_suptitle()


@pytest.mark.parametrize(
    ("spacing", "axis", "aspect"), [((1, 2, 5), "W", 2), ((5, 1, 3), "D", 3), ((1, 4, 2), "H", 2), ((1, 1, 1), "W", 1)]
)
def test_the_widest_axis_is_cut_and_voxels_keep_their_proportions(
    volumes: tuple[Tensor, ...], spacing: tuple[float, float, float], axis: str, aspect: float
) -> None:
    figure = slices(*volumes, spacing=spacing)
    assert figure.get_suptitle().endswith(f"axis {axis}")
    assert {axes.get_aspect() for axes in figure.axes[:4]} == {aspect}


def test_background_has_no_colour_and_each_class_its_own(volumes: tuple[Tensor, ...]) -> None:
    scan, truth, prediction, uncertainty = volumes
    truth[0, 0, 2] = 2
    overlay = slices(scan, truth, prediction, uncertainty).axes[1].images[1].get_array()
    expected = truth[:, :, 2].T.numpy()
    np.testing.assert_array_equal(overlay.mask, expected == 0)
    assert overlay[expected == 1].tolist() == [0] * 12
    assert overlay[expected == 2].tolist() == [1]


def test_a_case_without_uncertainty_anywhere_can_be_drawn(volumes: tuple[Tensor, ...]) -> None:
    scan, truth, prediction, uncertainty = volumes
    figure = slices(torch.zeros_like(scan), truth, prediction, torch.zeros_like(uncertainty))
    figure.canvas.draw()
    shown = next(axes for axes in figure.axes if axes.get_title() == "Uncertainty").images[0]
    assert not shown.get_array().any()
    assert shown.norm.vmax > shown.norm.vmin == 0


def test_a_volume_of_another_shape_is_refused(volumes: tuple[Tensor, ...]) -> None:
    scan, truth, prediction, uncertainty = volumes
    with pytest.raises(ConfigError, match=r"prediction has shape \(5, 8, 5\)"):
        slices(scan, truth, prediction[:5], uncertainty)
