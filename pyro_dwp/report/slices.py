"""One slice of a case: scan, truth, prediction, uncertainty. Axis letters: D H W voxels."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from pyro_dwp.errors import ConfigError
from pyro_dwp.predict import widest_axis
from pyro_dwp.predict.review import AXES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#ff5d5d", "#4fc3f7", "#ffd54f", "#81c784", "#ce93d8", "#ffb74d")
VOXELS: dict[str, Any] = {"origin": "lower", "interpolation": "nearest"}


def slices(
    scan: Tensor,
    truth: Tensor | None,
    prediction: Tensor,
    uncertainty: Tensor,
    classes: int = 2,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    title: str = "",
    uncertainty_label: str = "Predictive entropy (nats)",
    names: Sequence[str] = (),
) -> "Figure":
    """Draw one slice of a case four times: the scan, the truth and the prediction over it, and the uncertainty.

    The slice lies across the axis of widest spacing, where the truth has the most foreground. Where there is no truth, or it
    is empty, the prediction decides; without any foreground the middle slice is drawn. Voxels keep their proportions.

    The colours of the uncertainty run from 0 to ln C, the largest entropy that C classes can have, in every figure, so that
    figures can be compared and a small uncertainty looks small.

    Args:
        scan: one channel of the image, (D, H, W).
        truth: classes, (D, H, W), or None.
        prediction: classes, (D, H, W).
        uncertainty: entropy or mutual information, in nats, (D, H, W).
        classes: number C of classes, background included.
        spacing: distance between voxels along D, H, W, in mm.
        title: of the figure, for instance the case and its Dice.
        uncertainty_label: what the last panel shows, with its unit.
        names: of the foreground classes, for a legend of those that the slice shows; none draws no legend.

    Raises:
        ConfigError: if a volume differs in shape from the scan.
    """
    from matplotlib.figure import Figure

    for name, volume in (("truth", truth), ("prediction", prediction), ("uncertainty", uncertainty)):
        if volume is not None and volume.shape != scan.shape:
            raise ConfigError(
                f"All volumes of a figure share the scan's grid {tuple(scan.shape)}, but the {name} has shape "
                f"{tuple(volume.shape)}. Resample it to the scan's grid first."
            )
    axis, index = densest_slice(prediction if truth is None or not truth.any() else truth, spacing)
    across, along = (edge for number, edge in enumerate(spacing) if number != axis)
    image = plane(scan, axis, index)
    masks = {"Scan": None, "Truth": truth, "Prediction": prediction}
    if truth is None:
        del masks["Truth"]
    height, width = image.shape
    shape = min(max(height * along / (width * across), 0.5), 2.0)
    figure = Figure(figsize=(2.7 * (len(masks) + 1) + 0.9, 2.7 * shape + 0.8), layout="constrained")
    where = f"{AXES[axis]} slice {index + 1} of {scan.shape[axis]}"
    figure.suptitle(f"{title}, {where}" if title else where, fontsize=11)
    panels = figure.subplots(1, len(masks) + 1)
    for axes, (name, mask) in zip(panels, masks.items(), strict=False):
        overlay(axes, image, None if mask is None else plane(mask, axis, index))
        axes.set_title(name, fontsize=10)
    shown = panels[-1].imshow(plane(uncertainty, axis, index), cmap="magma", vmin=0, vmax=math.log(classes), **VOXELS)
    panels[-1].set_title("Uncertainty", fontsize=10)
    figure.colorbar(shown, ax=panels[-1], label=uncertainty_label, shrink=0.9)
    for axes in panels:
        axes.set(xticks=[], yticks=[], aspect=along / across)
    shown_masks = [plane(mask, axis, index) for mask in masks.values() if mask is not None]
    legend(figure, names, sorted({int(value) for mask in shown_masks for value in np.unique(mask)} - {0}))
    return figure


def legend(figure: "Figure", names: Sequence[str], classes: Sequence[int]) -> None:
    """Write the name of each class beside its colour, below the panels.

    Args:
        figure: to write on.
        names: of the foreground classes, from class 1 on; one without a name is left out.
        classes: that the figure shows.
    """
    from matplotlib.patches import Patch

    named = [number for number in classes if number <= len(names)]
    patches = [Patch(color=COLOURS[(number - 1) % len(COLOURS)], label=names[number - 1]) for number in named]
    if patches:
        figure.legend(handles=patches, loc="outside lower left", ncols=len(patches), frameon=False, fontsize=9)


def densest_slice(labels: Tensor, spacing: Sequence[float]) -> tuple[int, int]:
    """Return the axis of widest spacing, and the slice across it that has the most foreground; of a single slice, itself.

    Among axes whose spacing agrees to a micrometre the last one is taken; without foreground, the middle slice.

    Args:
        labels: (D, H, W).
        spacing: distance between voxels along D, H, W, in mm.

    Example:
        >>> import torch
        >>> labels = torch.zeros(4, 5, 6, dtype=torch.int64)
        >>> labels[:, :, 2] = 1
        >>> densest_slice(labels, (1.0, 1.0, 3.0))
        (2, 2)
    """
    axis = widest_axis(labels.shape, spacing)
    counts = (labels != 0).sum(dim=[other for other in range(3) if other != axis])
    return axis, int(counts.argmax()) if counts.any() else len(counts) // 2


def plane(volume: Tensor, axis: int, index: int) -> np.ndarray:
    """Return one slice, the first of its two axes running to the right and the second upwards."""
    return volume.detach().cpu().select(axis, index).T.numpy()


def overlay(axes: "Axes", image: np.ndarray, mask: np.ndarray | None) -> None:
    """Show an image in grey, from its 0.5th to its 99.5th percentile, and a colour over each class of a mask."""
    from matplotlib.colors import ListedColormap

    low, high = np.percentile(image, (0.5, 99.5))
    axes.imshow(image, cmap="gray", vmin=low, vmax=high, **VOXELS)
    if mask is not None:
        marked = (np.ma.masked_equal(mask, 0) - 1) % len(COLOURS)
        axes.imshow(marked, cmap=ListedColormap(COLOURS), vmin=0, vmax=len(COLOURS) - 1, alpha=0.5, **VOXELS)
