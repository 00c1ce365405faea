"""Kernels of trained networks beside samples from the prior.

Made without pyplot, so nothing global changes and no window opens. Axis letters: K edge of a kernel, n kernels.
"""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from pyro_dwp.errors import ConfigError

VOXEL = 0.1  # edge of a drawn weight, inches
NARROWEST = 3.0  # of a panel, inches
GAP = "#c3c7cc"


def kernels(
    trained: Mapping[str, Tensor],
    samples: Mapping[str, Tensor],
    rows: int = 4,
    columns: int = 4,
    seed: int = 0,
    title: str = "Kernels of trained networks, and samples from the prior fitted to them",
    names: tuple[str, str] = ("trained", "prior samples"),
) -> Figure:
    """Draw kernels of trained networks beside samples from the prior, group by group (the paper's figure 5).

    Each kernel is shown as its K slices side by side. One colour scale, symmetric about 0, serves a whole group, so
    that sizes can be compared; it ends at the 99.5th percentile of the trained kernels' magnitudes.

    Args:
        trained: group → kernels, (n, K, K, K) or (n, K, K).
        samples: group → samples of its prior, same kernel shape.
        rows: kernels below each other on either side.
        columns: kernels beside each other on either side.
        seed: of the choice among the trained kernels.
        title: of the figure; says what stands on either side.
        names: of the left and the right side, above each panel.

    Raises:
        ConfigError: if the two have no group in common, or kernels of different shapes.

    References:
        Kuzina, Egorov, Burnaev 2019, Front. Neurosci. 13:844, figure 5.
    """
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
    generator = torch.Generator().manual_seed(seed)
    chosen = {group: torch.randperm(len(trained[group]), generator=generator)[: rows * columns] for group in groups}
    pairs = {
        group: (trained[group].detach().cpu()[chosen[group]], samples[group].detach().cpu()[: rows * columns])
        for group in groups
    }
    height, width = kernel_grid(pairs[groups[0]][0], rows, columns).shape
    voxel = max(VOXEL, NARROWEST / width)
    size = 2 * width * voxel + 1.6, len(groups) * (height * voxel + 0.45) + 0.4
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title, fontsize=11)
    for panels, (group, pair) in zip(figure.subplots(len(groups), 2, squeeze=False), pairs.items(), strict=True):
        _kernel_pair(panels, group, pair, rows, columns, names)
    return figure


def compare_kernels(
    trained: Mapping[str, Tensor], samples: Mapping[str, Mapping[str, Tensor]], count: int = 5, seed: int = 0
) -> Figure:
    """Draw kernels of trained networks beside samples from several priors: a row for each group, a column for each prior.

    Each kernel is shown as its K slices side by side, on one colour scale for each group, as in `kernels`.

    Args:
        trained: group → kernels, (n, K, K, K) or (n, K, K).
        samples: name of a prior → group → samples, (m, K, ...).
        count: kernels below each other in each panel.
        seed: of the choice among the trained kernels.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = {g: k[torch.randperm(len(k), generator=generator)[:count]].detach().cpu() for g, k in trained.items()}
    columns = {"trained": chosen, **samples}
    height, width = kernel_grid(next(iter(chosen.values())), count, 1).shape
    voxel = max(VOXEL, 1.1 / width)
    size = len(columns) * (width * voxel + 0.15), len(trained) * (height * voxel + 0.1) + 0.8
    figure = Figure(figsize=size, layout="constrained")
    for panels, group in zip(figure.subplots(len(trained), len(columns), squeeze=False), sorted(trained), strict=True):
        limit = max(float(np.percentile(chosen[group].abs().numpy(), 99.5)), 1e-12)
        for axes, (name, drawn) in zip(panels, columns.items(), strict=True):
            grid = kernel_grid(drawn[group][:count], count, 1)
            colours = colormaps["RdBu_r"].with_extremes(bad=GAP)
            axes.imshow(grid, cmap=colours, vmin=-limit, vmax=limit, interpolation="nearest")
            axes.set_axis_off()
            if group == min(trained):
                axes.set_title("\n".join(textwrap.wrap(name, 14)), fontsize=7)
        panels[0].text(
            -0.15, 0.5, f"group {group}", transform=panels[0].transAxes, rotation=90, va="center", fontsize=7
        )
    return figure


def kernel_grid(kernels: Tensor, rows: int, columns: int) -> np.ndarray:
    """Lay kernels out in rows and columns, each as its slices side by side, with a gap of NaN between kernels.

    Args:
        kernels: (n, K, K, K) or (n, K, K); what does not fit is left out, what is missing stays NaN.
        rows: of the grid.
        columns: of the grid.

    Returns:
        float64, (rows · (K + 1) - 1, columns · (K·K + 1) - 1), or (…, columns · (K + 1) - 1) for (n, K, K).

    Example:
        >>> kernel_grid(torch.ones(2, 3, 3, 3), rows=1, columns=2).shape
        (3, 19)
    """
    flat = kernels.double().transpose(1, 2).flatten(2) if kernels.ndim == 4 else kernels.double()
    height, width = flat.shape[1:]
    grid = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1), np.nan)
    for index, kernel in enumerate(flat[: rows * columns].numpy()):
        top, left = index // columns * (height + 1), index % columns * (width + 1)
        grid[top : top + height, left : left + width] = kernel
    return grid


def _kernel_pair(
    panels: Sequence[Axes],
    group: str,
    pair: tuple[Tensor, Tensor],
    rows: int,
    columns: int,
    names: tuple[str, str],
) -> None:
    """Draw trained kernels on the left and samples on the right, on one colour scale."""
    limit = max(float(np.percentile(pair[0].abs().numpy(), 99.5)), 1e-12)
    colours = colormaps["RdBu_r"].with_extremes(bad=GAP)
    edge = pair[0].shape[-1]
    for axes, kernels, source in zip(panels, pair, names, strict=True):
        grid = kernel_grid(kernels, rows, columns)
        spread = float(kernels.double().square().mean().sqrt())
        shown = axes.imshow(grid, cmap=colours, vmin=-limit, vmax=limit, interpolation="nearest")
        axes.vlines(_slice_borders(grid.shape[1], edge, columns), -0.5, grid.shape[0] - 0.5, color=GAP, linewidth=1.2)
        axes.set_title(f"Group {group}: {source} (r.m.s. {spread:.3g})", fontsize=9)
        axes.set_axis_off()
    panels[0].figure.colorbar(shown, ax=panels, label="Weight", shrink=0.95, aspect=12)


def _slice_borders(width: int, edge: int, columns: int) -> list[float]:
    """Return where one slice of a kernel ends and the next begins; none where kernels are single slices."""
    kernel = (width + 1) // columns
    return [column * kernel + cut - 0.5 for column in range(columns) for cut in range(edge, kernel - 1, edge)]
