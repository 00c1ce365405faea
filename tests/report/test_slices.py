import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pyro_dwp.errors import ConfigError
from pyro_dwp.report import slices
from tests.helpers.refusal import refuses


@pytest.fixture
def volumes() -> list[Tensor]:
    """Return scan, truth, prediction and uncertainty; truth is largest at W = 2, prediction at W = 4."""
    truth, prediction = torch.zeros(2, 6, 8, 5, dtype=torch.int64)
    truth[1:4, 2:6, 2] = truth[1, 1, 1] = 1
    prediction[1:5, 2:7, 4] = 2
    return [torch.rand(6, 8, 5), truth, prediction, torch.rand(6, 8, 5) * 0.69]


def test_four_panels_of_the_slice_where_the_truth_is_largest_else_the_prediction_else_the_middle_one(volumes) -> None:
    figure = slices(*volumes, title="case")
    assert figure.get_suptitle() == "case, foot-head slice 3 of 5"
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), volumes[0][:, :, 2].T.numpy())
    scan, truth, prediction, uncertainty = volumes
    empty = torch.zeros_like(truth)
    for missing, predicted, number in ((None, prediction, 5), (empty, prediction, 5), (None, empty, 3)):
        figure = slices(scan, missing, predicted, uncertainty)
        assert f"slice {number} of 5" in figure.get_suptitle()
        panels = ["Scan", *["Truth"] * (missing is not None), "Prediction", "Uncertainty"]
        assert [axes.get_title() for axes in figure.axes if axes.get_title()] == panels


@pytest.mark.parametrize(
    ("spacing", "axis", "aspect"), [((1, 2, 5), 2, 2), ((5, 1, 3), 0, 3), ((1, 4, 2), 1, 2), ((1, 1, 1), 2, 1)]
)
def test_the_widest_axis_is_cut_and_voxels_keep_their_proportions(volumes, spacing, axis: int, aspect: float) -> None:
    figure = slices(*volumes, spacing=spacing)
    assert figure.get_suptitle().startswith(("left-right", "back-front", "foot-head")[axis])
    assert {axes.get_aspect() for axes in figure.axes[:4]} == {aspect}


def test_of_an_image_the_only_slice_is_shown_however_thin_it_is(volumes) -> None:
    figure = slices(*(volume[..., 2:3] for volume in volumes), spacing=(1, 2, 0.5))
    assert figure.get_suptitle() == "foot-head slice 1 of 1"


@pytest.mark.parametrize(("classes", "largest"), [(2, 0.0), (2, 0.15), (4, 1.0)])
def test_each_class_has_its_colour_and_uncertainty_those_from_0_to_the_log_of_their_number(volumes, classes, largest):
    volumes[1][0, 0, 2] = 2
    volumes[3] *= largest
    figure = slices(*volumes, classes)
    figure.canvas.draw()
    overlay, shown = figure.axes[1].images[1].get_array(), figure.axes[3].images[0]
    np.testing.assert_array_equal(overlay.filled(-1) + 1, volumes[1][:, :, 2].T.numpy())  # background has none
    assert shown.get_clim() == pytest.approx((0, math.log(classes)))
    np.testing.assert_array_equal(shown.get_array(), volumes[3][:, :, 2].T.numpy())


def test_a_legend_names_the_classes_that_the_slice_shows_in_their_colours(volumes) -> None:
    volumes[1][0, 0, 2] = 2
    assert not slices(*volumes, 4).legends
    figure = slices(*volumes, 4, names=("oedema", "core", "elsewhere"))
    (legend,) = figure.legends
    figure.canvas.draw()
    assert [text.get_text() for text in legend.get_texts()] == ["oedema", "core"]
    overlay = figure.axes[1].images[1]
    for patch, value in zip(legend.get_patches(), (1, 2), strict=True):
        shown = overlay.to_rgba(np.array([value - 1.0]))[0, :3]
        np.testing.assert_allclose(patch.get_facecolor()[:3], shown)


def test_a_volume_of_another_shape_is_refused(volumes: list[Tensor]) -> None:
    volumes[2] = volumes[2][:5]
    with refuses("prediction", "(5, 8, 5)", error=ConfigError):
        slices(*volumes)
