"""Write figures to files."""

from pathlib import Path
from typing import TYPE_CHECKING

from pyro_dwp.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save_figure(figure: "Figure", path: Path, dpi: int = 150) -> Path:
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
