"""Guides of Pyro and of a user's own AutoGuide: inferred, predicted with, and resumed, by the scripts."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Call = Callable[..., Any]
OWN = """
import pyro.distributions as dist
from pyro.infer.autoguide import AutoDiagonalNormal


class Mine(AutoDiagonalNormal):
    pass


class Student(AutoDiagonalNormal):
    def get_posterior(self, *args, **kwargs):
        return dist.StudentT(5.0, self.loc, self.scale).to_event(1)
"""
GUIDES = {
    "AutoNormal": ["--guide", "pyro.infer.autoguide.AutoNormal", "--guide.init_scale", "0.01"],
    "AutoDelta": ["--guide", "pyro.infer.autoguide.AutoDelta"],
    "a file": ["--guide", "mine.py:Mine"],
    "a file, distributions of sites not told": ["--guide", "mine.py:Student"],
    "nested": ["--guide", "ensemble", "--guide.guide", "pyro.infer.autoguide.AutoNormal", "--guide.members", "2"],
}


@pytest.mark.parametrize("guide", GUIDES)
def test_an_autoguide_infers_predicts_and_resumes(
    finished: Call, no_figures: None, tmp_path: Path, phantom_flags: list[str], target_flags: list[str], guide: str
) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    flags = [*phantom_flags, *target_flags, *GUIDES[guide], "--prior", "gaussian", "--name", "run"]
    finished(tmp_path, "svi_target", *flags, "--schedule.epochs", "1")
    (tmp_path / "scans").mkdir()
    for scan in (tmp_path / "runs" / "run" / "predictions").glob("*_probability.nii.gz"):
        shutil.copy(scan, tmp_path / "scans")
    done = finished(tmp_path, "predict", "--run", "runs/run", "--images", "scans", "--output", "again")
    assert list((tmp_path / "again").glob("*_mask.nii.gz")), done.out
    finished(tmp_path, "svi_target", *flags, "--schedule.epochs", "2", "--resume")


def test_help_and_a_wrong_name_tell_of_pyros_guides(call: Call, tmp_path: Path) -> None:
    assert "pyro.infer.autoguide.AutoNormal" in call(tmp_path, "svi_target", "--help").out
