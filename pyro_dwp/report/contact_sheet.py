"""A slice of every case on one sheet, with its labels outlined: what a data set looks like at a glance."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyro_dwp.data import Scan
from pyro_dwp.report.slices import COLOURS, densest_slice, overlay, plane

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ACROSS, LARGEST = 5, 256  # pictures in a row; voxels along an edge of a picture, beyond which every second is left out


@dataclass(frozen=True, eq=False)
class Picture:
    """One slice of a case.

    Args:
        name: of the case.
        image: first channel, float32, (height, width).
        label: stored labels, int64, (height, width); None where there is no truth.
        aspect: height of a pixel over its width, in mm.
        where: which slice it is, in words.
    """

    name: str
    image: np.ndarray
    label: np.ndarray | None
    aspect: float
    where: str


def picture(scan: Scan) -> Picture:
    """Return the slice of a case that has the most foreground, across the axis of widest spacing; see `densest_slice`.

    Args:
        scan: image (C, D, H, W), label (D, H, W) or None.
    """
    image = scan.image[0]
    axis, index = densest_slice(image.new_zeros(image.shape) if scan.label is None else scan.label, scan.spacing)
    across, along = (edge for number, edge in enumerate(scan.spacing) if number != axis)
    thin = slice(None, None, math.ceil(max(plane(image, axis, index).shape) / LARGEST))
    cut = lambda volume: plane(volume, axis, index)[thin, thin].copy()  # noqa: E731
    label = None if scan.label is None else cut(scan.label)
    return Picture(scan.name, cut(image), label, along / across, f"slice {index + 1} of {image.shape[axis]}")


def contact_sheet(pictures: Sequence[Picture], names: Mapping[int, str], title: str = "") -> "Figure":
    """Draw a slice of each case in grey, its labels outlined in the colours of a legend.

    Args:
        pictures: of the cases; without any the sheet is empty.
        names: of the labels, for the legend.
        title: of the figure.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    columns = max(1, min(ACROSS, len(pictures)))
    rows = max(1, math.ceil(len(pictures) / columns))
    figure = Figure(figsize=(2.4 * columns, 2.6 * rows + 0.9), layout="constrained")
    figure.suptitle(title, fontsize=11)
    colours = {value: COLOURS[number % len(COLOURS)] for number, value in enumerate(names)}
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in panels[len(pictures) :]:
        axes.set_axis_off()
    for axes, shown in zip(panels, pictures, strict=False):
        overlay(axes, shown.image, None)
        for value, colour in colours.items():
            if shown.label is not None and (shown.label == value).any():
                axes.contour(shown.label == value, levels=[0.5], colors=[colour], linewidths=1.0)
        axes.set_title(f"{shown.name}\n{shown.where}" + ("" if shown.label is not None else ", no label"), fontsize=8)
        axes.set(xticks=[], yticks=[], aspect=shown.aspect)
    handles = [Line2D([], [], color=colour, label=names[value]) for value, colour in colours.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(6, max(1, len(handles))), fontsize=9)
    return figure
