"""Figures on disk."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from pyro_dwp.report import learning_curves, save_figure

PNG = b"\x89PNG\r\n\x1a\n"


def test_a_figure_is_written_as_png_into_a_new_folder(tmp_path: Path) -> None:
    path = save_figure(learning_curves([{"epoch": 1, "train/loss": 1.0}]), tmp_path / "figures" / "curves.png")
    assert path.read_bytes().startswith(PNG)
    assert [file.name for file in path.parent.iterdir()] == ["curves.png"]


def test_a_failure_leaves_the_old_figure_and_no_half_written_one(tmp_path: Path) -> None:
    path = save_figure(learning_curves([{"epoch": 1, "train/loss": 1.0}]), tmp_path / "curves.png")
    before = path.read_bytes()
    broken = Figure()
    broken.suptitle("$\\undefined{$")
    with pytest.raises(ValueError, match="undefined"):
        save_figure(broken, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["curves.png"]


def test_figures_need_no_display() -> None:
    code = "import pyro_dwp.report as r; r.learning_curves([{'epoch': 1, 'train/loss': 1.0}]).canvas.draw()"
    without = {
        name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND")
    }
    assert subprocess.run([sys.executable, "-c", code], env=without).returncode == 0


def test_the_global_state_of_pyplot_is_left_alone() -> None:
    for path in (Path(__file__).parents[2] / "pyro_dwp").rglob("*.py"):
        assert "import matplotlib.pyplot" not in path.read_text(), path
        assert "from matplotlib import pyplot" not in path.read_text(), path
