"""Figures to files."""

import os
from pathlib import Path

from matplotlib.figure import Figure


def save_figure(figure: Figure, path: Path, dpi: int = 150) -> Path:
    """Write a figure as PNG, all or nothing; its folder is made where it is missing.

    Args:
        figure: to write.
        path: ending in .png.
        dpi: dots per inch.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    try:
        figure.savefig(partial, dpi=dpi, format="png")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path
