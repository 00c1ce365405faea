"""Grids of kernels: layout and colour scale."""

import numpy as np
import pytest
import torch

from pyro_dwp.errors import ConfigError
from pyro_dwp.report import kernels
from pyro_dwp.report.kernel_grids import compare_kernels, kernel_grid


def test_a_kernel_is_laid_out_slice_by_slice() -> None:
    kernel = torch.arange(27.0).reshape(1, 3, 3, 3)
    grid = kernel_grid(kernel, rows=1, columns=1)
    np.testing.assert_array_equal(grid, np.concatenate(list(kernel[0].numpy()), axis=1))


def test_kernels_fill_rows_first_with_gaps_between_them() -> None:
    grid = kernel_grid(torch.arange(3.0).reshape(3, 1, 1).expand(3, 2, 2), rows=2, columns=2)
    gap = np.nan
    expected = [[0, 0, gap, 1, 1], [0, 0, gap, 1, 1], [gap] * 5, [2, 2, gap, gap, gap], [2, 2, gap, gap, gap]]
    np.testing.assert_array_equal(grid, expected)


@pytest.mark.parametrize("shape", [(3, 3, 3), (3, 3), (5, 5, 5)])
def test_groups_in_common_are_drawn_side_by_side_on_one_symmetric_scale(shape: tuple[int, ...]) -> None:
    trained = {group: torch.randn(20, *shape) * scale for group, scale in (("1", 0.1), ("2", 0.5), ("3", 1))}
    samples = {group: torch.randn(20, *shape) * 2 for group in ("1", "2")}
    figure = kernels(trained, samples)
    images = [axes.images[0] for axes in figure.axes if axes.images]
    assert len(images) == 4
    for left, right in zip(images[::2], images[1::2], strict=True):
        assert left.get_clim() == right.get_clim()
        assert left.get_clim()[0] == -left.get_clim()[1]
    assert images[0].get_clim()[1] < images[2].get_clim()[1]


def test_the_choice_of_kernels_follows_the_seed() -> None:
    bank = {"1": torch.randn(100, 3, 3, 3)}
    first, second, other = (kernels(bank, bank, seed=seed).axes[0].images[0].get_array() for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_fewer_kernels_than_places_can_be_drawn() -> None:
    figure = kernels({"1": torch.randn(2, 3, 3, 3)}, {"1": torch.zeros(1, 3, 3, 3)})
    figure.canvas.draw()
    drawn = [int(np.isfinite(np.ma.filled(axes.images[0].get_array(), np.nan)).sum()) for axes in figure.axes[:2]]
    assert drawn == [2 * 27, 27]


def test_no_group_in_common_is_refused() -> None:
    with pytest.raises(ConfigError, match="none in common"):
        kernels({"1": torch.ones(1, 3, 3, 3)}, {"2": torch.ones(1, 3, 3, 3)})


def test_kernels_of_other_shapes_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"\(3, 3, 3\).*\(5, 5, 5\)"):
        kernels({"1": torch.ones(1, 3, 3, 3)}, {"1": torch.ones(1, 5, 5, 5)})


def test_priors_stand_beside_the_trained_kernels_a_row_for_each_group() -> None:
    trained = {"1": torch.randn(8, 3, 3, 3), "2": torch.randn(8, 3, 3, 3)}
    samples = {name: {group: torch.randn(6, 3, 3, 3) for group in trained} for name in ("gaussian", "flow")}
    figure = compare_kernels(trained, samples, count=4)
    shown = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in shown[:3]] == ["trained", "gaussian", "flow"]
    assert len(shown) == 6
    drawn = shown[4].images[0].get_array()
    assert drawn.shape == (4 * 4 - 1, 9)
    assert float(drawn[0, 0]) == pytest.approx(float(samples["gaussian"]["2"][0, 0, 0, 0]))
