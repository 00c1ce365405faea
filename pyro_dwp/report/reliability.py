"""Predicted probabilities against how often they came true."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pyro_dwp.metrics import structure_title
from pyro_dwp.report.curves import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def reliability_diagram(curves: Mapping[str, Mapping[str, Sequence[float]]]) -> "Figure":
    """Draw a calibration curve of each structure, and below it how many voxels each of its points stands for.

    On the diagonal probabilities agree with frequencies; below it a network is too sure that a voxel is of the structure.

    Args:
        curves: structure → `probability`, `frequency` and `voxels` of each bin, as `calibration` in metrics.json holds them.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 5.4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle=":")
    for (name, curve), colour in zip(curves.items(), COLOURS * len(curves), strict=False):
        drawn = {"marker": "o", "markersize": 4, "color": colour}
        above.plot(curve["probability"], curve["frequency"], label=structure_title(name), **drawn)
        below.plot(curve["probability"], curve["voxels"], **drawn)
    above.set(ylabel="Share of voxels of the structure", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    below.set(xlabel="Predicted probability", ylabel="Voxels", yscale="log")
    for axes in (above, below):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    above.legend(frameon=False)
    return figure
