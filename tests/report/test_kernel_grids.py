import numpy as np
import pytest
import torch

from pyro_dwp.errors import ConfigError
from pyro_dwp.report import compare_kernels, kernels
from pyro_dwp.report.kernel_grids import kernel_grid
from tests.helpers.refusal import refuses


def test_a_kernel_is_drawn_slice_by_slice_and_kernels_fill_rows_first_with_gaps_between_them() -> None:
    kernel = torch.arange(27.0).reshape(1, 3, 3, 3)
    np.testing.assert_array_equal(kernel_grid(kernel, 1, 1), np.concatenate(list(kernel[0].numpy()), axis=1))
    gap = np.nan
    expected = [[0, 0, gap, 1, 1], [0, 0, gap, 1, 1], [gap] * 5, [2, 2, gap, gap, gap], [2, 2, gap, gap, gap]]
    np.testing.assert_array_equal(kernel_grid(torch.arange(3.0).reshape(3, 1, 1).expand(3, 2, 2), 2, 2), expected)


@pytest.mark.parametrize("shape", [(3, 3, 3), (3, 3), (5, 5, 5)])
def test_groups_in_common_are_drawn_side_by_side_on_one_symmetric_scale(shape: tuple[int, ...]) -> None:
    trained = {group: torch.randn(20, *shape) * scale for group, scale in (("1", 0.1), ("2", 0.5), ("3", 1))}
    figure = kernels(trained, {group: torch.randn(20, *shape) * 2 for group in ("1", "2")})
    limits = [axes.images[0].get_clim() for axes in figure.axes if axes.images]
    assert len(limits) == 4
    assert limits[::2] == limits[1::2]
    assert all(low == -high for low, high in limits)
    assert limits[0][1] < limits[2][1]


@pytest.mark.parametrize(("group", "edge", "tokens"), [("2", 3, ["in common"]), ("1", 5, ["(3, 3, 3)", "(5, 5, 5)"])])
def test_kernels_that_cannot_be_compared_are_refused(group: str, edge: int, tokens: list[str]) -> None:
    with refuses(*tokens, error=ConfigError):
        kernels({"1": torch.ones(1, 3, 3, 3)}, {group: torch.ones(1, edge, edge, edge)})


def test_priors_stand_beside_the_trained_kernels_in_one_row_per_group() -> None:
    trained = {group: torch.randn(8, 3, 3, 3) for group in "12"}
    samples = {name: {group: torch.randn(6, 3, 3, 3) for group in "12"} for name in ("gaussian", "flow")}
    shown = [axes for axes in compare_kernels(trained, samples, count=4).axes if axes.images]
    assert [axes.get_title() for axes in shown] == ["trained", "gaussian", "flow", "", "", ""]
    drawn = shown[4].images[0].get_array().filled(np.nan)
    np.testing.assert_array_equal(drawn, kernel_grid(samples["gaussian"]["2"][:4], 4, 1))
