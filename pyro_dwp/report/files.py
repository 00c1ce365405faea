"""Figures in files, and in notebooks."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from pyro_dwp.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHARP, SCREEN = 150, 100  # resolution in a file and in a notebook, dots per inch


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure that a notebook shows where it is the value of a cell; matplotlib's own, made without pyplot, it does not.

    Args:
        figure: of matplotlib, to change it further.
    """

    figure: "Figure"

    def _repr_png_(self) -> bytes:
        """Return the figure as PNG; Jupyter calls this."""
        png = BytesIO()
        self.figure.savefig(png, dpi=SCREEN, format="png")
        return png.getvalue()

    def save(self, path: Path | str) -> Path:
        """Write the figure as a PNG file, see `save_figure`."""
        return save_figure(self.figure, Path(path))


def save_figure(figure: "Figure", path: Path, dpi: int = SHARP) -> Path:
    """Write a figure as a PNG file, whole or not at all, and return its path.

    Args:
        figure: to write.
        path: of the file, ending in .png; missing folders are made.
        dpi: resolution, in dots per inch.

    Raises:
        DataError: if the file cannot be written.
    """
    with replacing(path) as partial:
        figure.savefig(partial, dpi=dpi, format="png")
    return Path(path)
