"""Figures of the page, as SVG in its own text colour, so that they are read on light and on dark."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pyro_dwp.report.curves import learning_curves
from pyro_dwp.report.reliability import reliability_diagram

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Points = Mapping[str, Sequence[float]]  # "probability", "frequency", "voxels"


def curves_svg(history: Sequence[Mapping[str, float]]) -> str:
    """Return the learning curves of a run; the loss is in nats where it is an ELBO."""
    unit = "nats" if any("train/kl" in row for row in history) else ""
    return svg(learning_curves(history, "", unit), "curves")


def calibration_svg(calibration: Mapping[str, Points]) -> str:
    """Return calibration curves, see `reliability_diagram`.

    Args:
        calibration: structure → "probability", "frequency" and "voxels" of its bins, each of the same length.
    """
    return svg(reliability_diagram(calibration), "calibration")


def svg(figure: "Figure", salt: str) -> str:
    """Return a figure as an SVG element as wide as there is room, with text as text and black as the page's text colour.

    Args:
        figure: to convert.
        salt: makes its identifiers differ from those of other figures on the page.
    """
    from matplotlib import rc_context

    stream = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*">', "<g>", text)
    width = figure.get_figwidth()  # inches; at 96 pixels to one, text has its own size
    head, _, rest = text.partition(">")
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    text = f'{head} style="max-width: {96 * width:.0f}px; min-width: {56 * width:.0f}px">{rest}'
    text = re.sub(r"(stroke|fill): #000000", r"\1: currentColor", text)
    return re.sub(r"font: [^;\"]*?(\d+(?:\.\d+)?px)[^;\"]*", r"font-size: \1", text)
