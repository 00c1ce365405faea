"""Kernels of trained networks beside samples from priors. Axis letters: K edge of a kernel, n kernels."""

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pyro_dwp.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

VOXEL = 0.1  # edge of a drawn weight, inches
NARROWEST = 3.0  # width of a panel of `kernels`, inches
GAP = "#c3c7cc"


def kernels(
    trained: Mapping[str, Tensor],
    samples: Mapping[str, Tensor],
    rows: int = 4,
    columns: int = 4,
    seed: int = 0,
    title: str = "Kernels of trained networks, and samples from the prior fitted to them",
    names: tuple[str, str] = ("trained", "prior samples"),
) -> "Figure":
    """Draw kernels of trained networks beside samples from a prior, group by group (figure 5 of the paper).

    A kernel is shown as its K slices side by side. Each group has one colour scale, symmetric about 0, so that sizes can be
    compared; it ends at the 99.5th percentile of the trained kernels' magnitudes.

    Args:
        trained: group → kernels, (n, K, K, K) or (n, K, K).
        samples: group → samples of its prior, kernels of the same shape.
        rows: number of rows of kernels on each side.
        columns: number of columns of kernels on each side.
        seed: of the random choice among the trained kernels.
        title: of the figure.
        names: of the left and the right side, above each panel.

    Raises:
        ConfigError: if the two have no group in common, or kernels of different shapes.

    References:
        Kuzina, Egorov, Burnaev 2019, Front. Neurosci. 13:844, figure 5.
    """
    from matplotlib.figure import Figure

    groups = [group for group in sorted(trained) if group in samples]
    if not groups:
        raise ConfigError(
            f"Trained kernels and samples are compared by group, but the groups {sorted(trained)} and "
            f"{sorted(samples)} have none in common. Draw the samples from the prior of these kernels."
        )
    for group in groups:
        if trained[group].shape[1:] != samples[group].shape[1:]:
            raise ConfigError(
                f"Group {group!r} has trained kernels of shape {tuple(trained[group].shape[1:])} and samples of shape "
                f"{tuple(samples[group].shape[1:])}. Draw the samples from the prior of these kernels."
            )
    chosen = _choose({group: trained[group] for group in groups}, rows * columns, seed)
    height, width = kernel_grid(chosen[groups[0]], rows, columns).shape
    voxel = max(VOXEL, NARROWEST / width)
    size = 2 * width * voxel + 1.6, len(groups) * (height * voxel + 0.45) + 0.4
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title, fontsize=11)
    for panels, group in zip(figure.subplots(len(groups), 2, squeeze=False), groups, strict=True):
        for axes, shown, name in zip(panels, (chosen[group], samples[group][: rows * columns]), names, strict=True):
            drawn = _draw(axes, shown, rows, columns, _limit(chosen[group]))
            borders = _slice_borders(width, shown.shape[-1], columns)
            axes.vlines(borders, -0.5, height - 0.5, color=GAP, linewidth=1.2)
            spread = float(shown.detach().double().square().mean().sqrt())
            axes.set_title(f"Group {group}: {name} (r.m.s. {spread:.3g})", fontsize=9)
        figure.colorbar(drawn, ax=panels, label="Weight", shrink=0.95, aspect=12)
    return figure


def compare_kernels(
    trained: Mapping[str, Tensor], samples: Mapping[str, Mapping[str, Tensor]], count: int = 5, seed: int = 0
) -> "Figure":
    """Draw kernels of trained networks beside samples from several priors: one row per group, one column per prior.

    Slices and colour scales are those of `kernels`.

    Args:
        trained: group → kernels, (n, K, K, K) or (n, K, K).
        samples: name of a prior → group → samples, (m, K, ...).
        count: kernels in each panel, one below the other.
        seed: of the random choice among the trained kernels.
    """
    from matplotlib.figure import Figure

    chosen = _choose(trained, count, seed)
    columns = {"trained": chosen, **samples}
    height, width = kernel_grid(next(iter(chosen.values())), count, 1).shape
    voxel = max(VOXEL, 1.1 / width)
    size = len(columns) * (width * voxel + 0.15), len(trained) * (height * voxel + 0.1) + 0.8
    figure = Figure(figsize=size, layout="constrained")
    for panels, group in zip(figure.subplots(len(trained), len(columns), squeeze=False), sorted(trained), strict=True):
        for axes, (name, drawn) in zip(panels, columns.items(), strict=True):
            _draw(axes, drawn[group][:count], count, 1, _limit(chosen[group]))
            if group == min(trained):
                axes.set_title("\n".join(textwrap.wrap(name, 14)), fontsize=7)
        label = {"transform": panels[0].transAxes, "rotation": 90, "va": "center", "fontsize": 7}
        panels[0].text(-0.15, 0.5, f"group {group}", **label)
    return figure


def kernel_grid(kernels: Tensor, rows: int, columns: int) -> np.ndarray:
    """Arrange kernels in rows and columns, each as its slices side by side, with a gap of NaN between kernels.

    Args:
        kernels: (n, K, K, K) or (n, K, K). Kernels beyond the last place are left out; places without a kernel stay NaN.
        rows: of the grid.
        columns: of the grid.

    Returns:
        float64, (rows · (K + 1) - 1, columns · (K·K + 1) - 1), or (…, columns · (K + 1) - 1) for (n, K, K).

    Example:
        >>> kernel_grid(torch.ones(2, 3, 3, 3), rows=1, columns=2).shape
        (3, 19)
    """
    kernels = kernels.detach().cpu().double()
    flat = kernels.transpose(1, 2).flatten(2) if kernels.ndim == 4 else kernels
    height, width = flat.shape[1:]
    grid = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1), np.nan)
    for index, kernel in enumerate(flat[: rows * columns].numpy()):
        top, left = index // columns * (height + 1), index % columns * (width + 1)
        grid[top : top + height, left : left + width] = kernel
    return grid


def _choose(trained: Mapping[str, Tensor], count: int, seed: int) -> dict[str, Tensor]:
    """Return up to `count` random kernels of each group."""
    generator = torch.Generator().manual_seed(seed)
    return {g: k[torch.randperm(len(k), generator=generator)[:count]].detach().cpu() for g, k in trained.items()}


def _limit(kernels: Tensor) -> float:
    """Return the weight at which the colours end."""
    return max(float(np.percentile(kernels.abs().numpy(), 99.5)), 1e-12)


def _draw(axes: "Axes", kernels: Tensor, rows: int, columns: int, limit: float) -> Any:
    """Draw a grid of kernels on one axis, and return the image."""
    from matplotlib import colormaps

    colours = colormaps["RdBu_r"].with_extremes(bad=GAP)
    axes.set_axis_off()
    grid = kernel_grid(kernels, rows, columns)
    return axes.imshow(grid, cmap=colours, vmin=-limit, vmax=limit, interpolation="nearest")


def _slice_borders(width: int, edge: int, columns: int) -> list[float]:
    """Return where one slice of a kernel ends and the next begins; none where kernels are single slices."""
    kernel = (width + 1) // columns
    return [column * kernel + cut - 0.5 for column in range(columns) for cut in range(edge, kernel - 1, edge)]
