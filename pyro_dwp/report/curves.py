"""Learning curves: how a training went."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pyro_dwp.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, float]

LOSSES = {"train/loss": ("training", "#1b6ca8"), "validation/loss": ("validation", "#d1495b")}
COLOURS = ("#2a9d8f", "#e9a23b", "#7b5ea7", "#6c757d", "#8d5a3b", "#c2185b")
RATE = "rate/"
PANELS_PER_ROW = 3
SHORT = 15  # curves with fewer points get a marker at each
WIDE = 100.0  # magnitudes that span a larger factor get a logarithmic axis
COMPARABLE = 10.0  # losses that differ by a larger factor get an axis each


def learning_curves(history: Sequence[Row], title: str = "Learning curves", unit: str = "") -> "Figure":
    """Draw loss, parts of the loss, validation scores and learning rates over the epochs.

    Training and validation loss share an axis if their sizes agree within a factor of 10. Panels without numbers, parts that
    are 0 throughout and weights ("train/…_weight") that never change are left out.

    Args:
        history: one row per epoch with "epoch", "train/…", "validation/…" and "rate/…", as in `train.History.rows`. A row
            may lack some of them.
        title: of the figure.
        unit: of the training loss and its parts, for instance "nats".

    Raises:
        ConfigError: if the history has nothing to draw.
    """
    from matplotlib.figure import Figure

    panels = _panels(history, f" ({unit})" if unit else "")
    if not panels:
        raise ConfigError(
            "Learning curves need at least one epoch with a loss, a score or a rate, but the history has "
            f"{len(history)} epoch(s) and none of these. Train first."
        )
    columns = min(len(panels), PANELS_PER_ROW)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.1 * rows + 0.4), layout="constrained")
    figure.suptitle(title)
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, (label, names) in zip(grid, panels.items(), strict=False):
        _curves(axes, history, names)
        axes.set(xlabel="Epoch", title=label)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    return figure


def _panels(history: Sequence[Row], unit: str) -> dict[str, list[str]]:
    """Return title → columns of each panel that has any."""
    names = dict.fromkeys(name for row in history for name in row)
    losses: list[str] = [name for name in LOSSES if name in names]
    if len(losses) == 2 and not _comparable(history, losses):
        panels = {f"Training loss{unit}": losses[:1], "Validation loss": losses[1:]}
    else:
        panels = {f"Loss{unit}": losses}
    parts = [name for name in names if name.startswith("train/") and name not in losses]
    weights = [name for name in parts if name.endswith("_weight")]
    panels[f"Parts of the loss{unit}"] = [n for n in parts if n not in weights and any(row.get(n) for row in history)]
    panels["Validation scores"] = [n for n in names if n.startswith("validation/") and n not in losses]
    panels["Learning rate"] = [name for name in names if name.startswith(RATE)]
    panels["Weights in the loss"] = [name for name in weights if len({row.get(name) for row in history}) > 1]
    return {title: columns for title, columns in panels.items() if columns}


def _curves(axes: "Axes", history: Sequence[Row], columns: Sequence[str]) -> None:
    """Draw some columns of a history on one axis, which is logarithmic if their range is wide."""
    from matplotlib.ticker import MaxNLocator

    values: list[float] = []
    for number, column in enumerate(columns):
        epochs, curve = zip(*[(row["epoch"], row[column]) for row in history if column in row], strict=True)
        label, colour = LOSSES.get(column, (column.partition("/")[2], COLOURS[number % len(COLOURS)]))
        marker = "o" if len(curve) < SHORT else None
        axes.plot(epochs, curve, color=colour, label=label, linewidth=1.6, marker=marker, markersize=3)
        values.extend(curve)
    magnitudes = [abs(value) for value in values if value != 0]
    if magnitudes and (columns[0].startswith(RATE) or max(magnitudes) > WIDE * min(magnitudes)):
        axes.set_yscale("log" if min(values) > 0 else "symlog")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)


def _comparable(history: Sequence[Row], columns: Sequence[str]) -> bool:
    """Tell whether the medians of some columns agree within a factor of 10."""
    sizes = [float(np.median([abs(row[column]) for row in history if column in row])) for column in columns]
    return max(sizes) <= COMPARABLE * min(sizes)
