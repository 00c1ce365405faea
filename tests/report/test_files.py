import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest
from matplotlib import image
from matplotlib.figure import Figure

from pyro_dwp.report import Drawing, learning_curves, save_figure

FIRST_FIGURE = """
import sys
import pyro_dwp.data, pyro_dwp.predict, pyro_dwp.report as report
assert not {"matplotlib", "monai", "nibabel"} & set(sys.modules)
report.learning_curves([{"epoch": 1, "train/loss": 1.0}]).canvas.draw()
assert "matplotlib.pyplot" not in sys.modules
"""


def test_a_figure_is_whole_or_absent_and_a_failure_leaves_the_old_one(tmp_path: Path) -> None:
    path = save_figure(learning_curves([{"epoch": 1, "train/loss": 1.0}]), tmp_path / "figures" / "curves.png")
    before = path.read_bytes()
    assert before.startswith(b"\x89PNG\r\n\x1a\n")
    broken = Figure()
    broken.suptitle("$\\undefined{$")
    with pytest.raises(ValueError, match="undefined"):
        save_figure(broken, path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_notebook_is_given_the_figure_as_png_and_a_file_the_same_picture_in_more_detail(tmp_path: Path) -> None:
    drawing = Drawing(learning_curves([{"epoch": 1, "train/loss": 1.0}]))
    shown = image.imread(BytesIO(drawing._repr_png_()))
    saved = image.imread(drawing.save(tmp_path / "curves.png"))
    assert saved.shape[0] / shown.shape[0] == pytest.approx(1.5, rel=0.01)


def test_slow_packages_are_imported_when_used_and_the_first_figure_needs_no_display_and_no_pyplot() -> None:
    environment = {n: v for n, v in os.environ.items() if n not in ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND")}
    assert subprocess.run([sys.executable, "-c", FIRST_FIGURE], env=environment).returncode == 0
