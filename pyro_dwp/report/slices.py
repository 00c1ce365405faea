"""One slice of a case: scan, truth, prediction, uncertainty.

Made without pyplot, so nothing global changes and no window opens. Axis letters: D H W voxels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from torch import Tensor

from pyro_dwp.errors import ConfigError

CLASSES = ("#ff5d5d", "#4fc3f7", "#ffd54f", "#81c784", "#ce93d8", "#ffb74d")
PLACED: dict[str, Any] = {"origin": "lower", "interpolation": "nearest"}


def slices(
    scan: Tensor,
    truth: Tensor | None,
    prediction: Tensor,
    uncertainty: Tensor,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    title: str = "",
    uncertainty_label: str = "Predictive entropy (nats)",
) -> Figure:
    """Draw one slice of a case four times: the scan, with the truth, with the prediction, and the uncertainty.

    The slice is the one, along the axis of widest spacing, with the most foreground in the truth, or in the prediction
    where there is no truth or it is empty; without any foreground, the middle one. Voxels have their true aspect.

    Args:
        scan: one channel of the image, (D, H, W).
        truth: classes, (D, H, W), or None.
        prediction: classes, (D, H, W).
        uncertainty: for instance entropy in nats, (D, H, W).
        spacing: distance between voxels along D, H, W, in mm.
        title: of the figure, for instance the case and its Dice.
        uncertainty_label: what the last panel shows, with its unit.

    Raises:
        ConfigError: if a volume has another shape than the scan.
    """
    for name, volume in (("truth", truth), ("prediction", prediction), ("uncertainty", uncertainty)):
        if volume is not None and volume.shape != scan.shape:
            raise ConfigError(
                f"All volumes of a figure lie on the scan's grid {tuple(scan.shape)}, but the {name} has shape "
                f"{tuple(volume.shape)}. Restore it to the scan's grid first."
            )
    axis, index = densest_slice(prediction if truth is None or not truth.any() else truth, spacing)
    across, along = (edge for number, edge in enumerate(spacing) if number != axis)
    image, doubt = _plane(scan, axis, index), _plane(uncertainty, axis, index)
    masks: dict[str, np.ndarray | None] = {"Scan": None}
    if truth is not None:
        masks["Truth"] = _plane(truth, axis, index)
    masks["Prediction"] = _plane(prediction, axis, index)
    height, width = image.shape
    shape = min(max(height * along / (width * across), 0.5), 2.0)
    figure = Figure(figsize=(2.7 * (len(masks) + 1) + 0.9, 2.7 * shape + 0.8), layout="constrained")
    where = f"slice {index + 1} of {scan.shape[axis]} along axis {'DHW'[axis]}"
    figure.suptitle(f"{title}, {where}" if title else where, fontsize=11)
    panels = figure.subplots(1, len(masks) + 1)
    for axes, (name, mask) in zip(panels, masks.items(), strict=False):
        _overlay(axes, image, mask)
        axes.set_title(name, fontsize=10)
    shown = panels[-1].imshow(doubt, cmap="magma", vmin=0, vmax=max(float(doubt.max()), 1e-6), **PLACED)
    panels[-1].set_title("Uncertainty", fontsize=10)
    figure.colorbar(shown, ax=panels[-1], label=uncertainty_label, shrink=0.9)
    for axes in panels:
        axes.set(xticks=[], yticks=[], aspect=along / across)
    return figure


def densest_slice(labels: Tensor, spacing: Sequence[float]) -> tuple[int, int]:
    """Return the axis of widest spacing and the slice across it with the most foreground.

    Of axes that are equal to a micrometre it is the last; of a volume without foreground, the middle slice.

    Example:
        >>> import torch
        >>> labels = torch.zeros(4, 5, 6, dtype=torch.int64)
        >>> labels[:, :, 2] = 1
        >>> densest_slice(labels, (1.0, 1.0, 3.0))
        (2, 2)
    """
    axis = max(range(3), key=lambda number: (round(spacing[number], 3), number))
    counts = (labels != 0).sum(dim=[other for other in range(3) if other != axis])
    return axis, int(counts.argmax()) if counts.any() else len(counts) // 2


def _plane(volume: Tensor, axis: int, index: int) -> np.ndarray:
    """Return one slice with the first of its two axes running to the right and the second upwards."""
    return volume.detach().cpu().select(axis, index).T.numpy()


def _overlay(axes: Axes, image: np.ndarray, mask: np.ndarray | None) -> None:
    """Show an image in grey, from its 0.5th to its 99.5th percentile, and a colour over each class of a mask."""
    low, high = np.percentile(image, (0.5, 99.5))
    axes.imshow(image, cmap="gray", vmin=low, vmax=high, **PLACED)
    if mask is not None:
        marked = (np.ma.masked_equal(mask, 0) - 1) % len(CLASSES)
        axes.imshow(marked, cmap=ListedColormap(CLASSES), vmin=0, vmax=len(CLASSES) - 1, alpha=0.5, **PLACED)
