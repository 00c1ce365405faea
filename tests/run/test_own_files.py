"""A prior and a guide in a file outside the repository run in run/svi_target.py unchanged, and predict afterwards."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyro_dwp.cli import load_config

Call = Callable[..., Any]
EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for file in EXAMPLES.glob("*.py"):
        shutil.copy(file, tmp_path)
    return tmp_path


def test_a_prior_and_a_guide_of_ones_own_infer_and_predict_by_file_path(
    finished: Call, no_figures: None, folder: Path, phantom_flags: list[str], target_flags: list[str]
) -> None:
    own = ["--prior", "smooth_prior.py:Smooth", "--prior.length", "1.5", "--guide", "per_kernel_guide.py:PerKernel"]
    flags = [*phantom_flags, *target_flags, "--schedule.epochs", "1", "--name", "run"]
    done = finished(folder, "svi_target", *flags, *own, "--guide.relative_scale", "0.05")
    assert re.search(r"Dice \d\.\d+", done.out.splitlines()[-1])
    config = load_config(folder / "runs" / "run")
    assert config["prior"]["init_args"] == {"scale": 0.02, "length": 1.5}
    assert config["guide"]["init_args"] == {"relative_scale": 0.05}
    finished(folder, "predict", "--run", "runs/run", "--images", "runs/run/predictions", "--output", "again")


def test_a_prior_and_a_guide_of_ones_own_infer_by_dotted_path(
    finished: Call,
    no_figures: None,
    folder: Path,
    phantom_flags: list[str],
    target_flags: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(folder)
    own = ["--prior", "smooth_prior.Smooth", "--guide", "per_kernel_guide.PerKernel"]
    flags = [*phantom_flags, *target_flags, "--schedule.epochs", "1", "--name", "run"]
    finished(folder, "svi_target", *flags, *own)
    assert load_config(folder / "runs" / "run")["guide"]["class_path"] == "per_kernel_guide.PerKernel"
