"""Learning curves: how a training went.

The parts of the ELBO differ by orders of magnitude, and some are negative. So the loss is drawn with the two terms that it is the
sum of, as they enter it, and every other part in a small panel of its own.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pyro_dwp.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, float]
Curve = list[tuple[float, float]]  # epochs and values

TRAINING, VALIDATION, DICE = "train/loss", "validation/loss", "validation/dice"
TERMS = ("train/data", "train/kl", "train/kl_weight")  # loss = −data + kl_weight · kl
PARTS = {
    "train/kl": "KL divergence, unweighted",
    "train/kl_explicit": "KL of sites with a density",
    "train/entropy": "Entropy H(q)",
    "train/kl_latent": "KL(r(z|w) ‖ p(z))",
    "train/reconstruction": "Reconstruction −log p(w|z)",
}
COLOURS = ("#1b6ca8", "#d1495b", "#2a9d8f", "#e9a23b", "#7b5ea7", "#6c757d", "#8d5a3b", "#c2185b")
PANELS_PER_ROW = 3
SHORT = 15  # curves with fewer points get a marker at each
WIDE = 100.0  # magnitudes that span a larger factor get a logarithmic axis
COMPARABLE = 10.0  # losses that differ by a larger factor get an axis each
LARGE = 1e4  # from here on ticks are written as 20 k or 3 M


def learning_curves(history: Sequence[Row], title: str = "Learning curves", unit: str = "") -> "Figure":
    """Draw loss, validation scores, parts of the loss and learning rates over the epochs, a panel for each.

    Where the history has the ELBO's parts, the loss is drawn with its two terms, −data and kl_weight · kl. Otherwise the
    validation loss shares its axis if their sizes agree within a factor of 10. The best validation Dice is marked. Panels without
    numbers, parts that are 0 throughout and weights ("train/…_weight") that never change are left out.

    Args:
        history: one row per epoch with "epoch", "train/…", "validation/…" and "rate/…", as in `train.History.rows`. A row
            may lack some of them.
        title: of the figure; "" for none.
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
    figure = Figure(figsize=(4.2 * columns, 2.8 * rows + 0.4), layout="constrained")
    figure.suptitle(title)
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, (label, curves) in zip(grid, panels.items(), strict=False):
        _draw(axes, label, curves)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    return figure


def _curve(history: Sequence[Row], name: str) -> Curve:
    return [(row["epoch"], row[name]) for row in history if name in row]


def _panels(history: Sequence[Row], unit: str) -> dict[str, dict[str, Curve]]:
    """Return title → label → curve of each panel that has any."""
    names = list(dict.fromkeys(name for row in history for name in row if "/" in name))
    curves = {name: _curve(history, name) for name in names}
    panels = _losses(curves, history, unit)
    panels["Validation scores"] = _short(curves, [n for n in names if n.startswith("validation/") and n != VALIDATION])
    drawn = (TRAINING, TERMS[0]) if set(TERMS) <= set(names) else (TRAINING,)
    weights = [name for name in names if name.startswith("train/") and name.endswith("_weight")]
    for name in names:
        if name.startswith("train/") and name not in (*drawn, *weights) and any(y for _, y in curves[name]):
            label = name.partition("/")[2]
            panels[PARTS.get(name, label) + unit] = {label: curves[name]}
    panels["Learning rate"] = _short(curves, [name for name in names if name.startswith("rate/")])
    changing = [name for name in weights if len({y for _, y in curves[name]}) > 1]
    panels["Weights in the loss"] = _short(curves, changing)
    return {title: columns for title, columns in panels.items() if columns}


def _short(curves: Mapping[str, Curve], names: Sequence[str]) -> dict[str, Curve]:
    return {name.partition("/")[2]: curves[name] for name in names}


def _losses(curves: Mapping[str, Curve], history: Sequence[Row], unit: str) -> dict[str, dict[str, Curve]]:
    """Return the panels of the training loss, with its terms if they are known, and of the validation loss."""
    training = {"training": curves[TRAINING]} if TRAINING in curves else {}
    validation = {"validation": curves[VALIDATION]} if VALIDATION in curves else {}
    if set(TERMS) <= curves.keys():
        rows = [row for row in history if set(TERMS) <= row.keys()]
        terms = {
            "−data": [(row["epoch"], -row["train/data"]) for row in rows],
            "kl_weight · kl": [(row["epoch"], row["train/kl_weight"] * row["train/kl"]) for row in rows],
        }
        return {f"Loss and its two terms{unit}": {"loss": curves[TRAINING], **terms}, "Validation loss": validation}
    if training and validation and not _comparable(curves[TRAINING], curves[VALIDATION]):
        return {f"Training loss{unit}": training, "Validation loss": validation}
    return {f"Loss{unit}": training | validation}


def _draw(axes: "Axes", title: str, curves: Mapping[str, Curve]) -> None:
    """Draw one panel, whose axis is logarithmic if its range is wide."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    for (label, curve), colour in zip(curves.items(), COLOURS * len(curves), strict=False):
        epochs, values = zip(*curve, strict=True)
        marker = "o" if len(curve) < SHORT else None
        axes.plot(epochs, values, color=colour, label=label, linewidth=1.6, marker=marker, markersize=3)
    everything = [value for curve in curves.values() for _, value in curve]
    magnitudes = [abs(value) for value in everything if value != 0]
    if magnitudes and (title == "Learning rate" or max(magnitudes) > WIDE * min(magnitudes)):
        axes.set_yscale("log" if min(everything) > 0 else "symlog")
    elif magnitudes and max(magnitudes) >= LARGE:
        axes.yaxis.set_major_formatter(EngFormatter(sep=" "))
    if "dice" in curves:
        epoch, best = max(curves["dice"], key=lambda point: point[1])
        axes.axvline(epoch, color="#6c757d", linewidth=1, linestyle="--", label=f"best Dice {best:.3f}, epoch {epoch}")
    axes.set(xlabel="Epoch", title=title)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if len(axes.get_lines()) > 1:
        axes.legend(frameon=False, fontsize=8)


def _comparable(first: Curve, second: Curve) -> bool:
    """Tell whether the medians of two curves agree within a factor of 10."""
    sizes = [float(np.median([abs(value) for _, value in curve])) for curve in (first, second)]
    return max(sizes) <= COMPARABLE * min(sizes)
