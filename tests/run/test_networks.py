"""Networks of a user's own: what they must say of themselves, and that nothing else is asked of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Call = Callable[..., Any]
MINE = ["--network", "mine.py:Mine"]
SIZE = ["--preprocess.grid", "[16,16,16]", "--train", "2", "--validation", "1"]
BRIEF = ["--schedule.epochs", "1", "--schedule.validate_every", "1"]
MY_NETWORK = '''
import torch
from torch import nn


class Mine(nn.Sequential):
    """Two convolutions."""

    def __init__(self) -> None:
        super().__init__(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 2, 3, padding=1))
'''


def declare(*attributes: str) -> str:
    values = {"classes": 2, "in_channels": 1}
    return MY_NETWORK + "".join(f"        self.{name} = {values[name]}\n" for name in attributes)


@pytest.mark.parametrize(
    ("script", "flags", "declared", "missing"),
    [
        ("svi_target", ["--prior", "gaussian", "--test", "1"], [], "classes"),
        ("svi_target", ["--prior", "gaussian", "--test", "1"], ["classes"], "in_channels"),
        ("train_source", [], [], "classes"),
    ],
)
def test_one_that_does_not_say_what_it_takes_and_gives_is_refused(
    call: Call,
    tmp_path: Path,
    phantom_flags: list[str],
    script: str,
    flags: list[str],
    declared: list[str],
    missing: str,
) -> None:
    (tmp_path / "mine.py").write_text(declare(*declared))
    done = call(tmp_path, script, *phantom_flags, *flags, *SIZE, *BRIEF, *MINE)
    assert done.status == 2
    assert f"Mine has no `{missing}`. Set self.{missing} in its constructor." in done.err
    assert not (tmp_path / "runs").exists()


def test_one_that_says_so_is_a_source_is_inferred_and_predicts(
    finished: Call, no_figures: None, tmp_path: Path, phantom_flags: list[str], nifti_tumours: Path
) -> None:
    (tmp_path / "mine.py").write_text(declare("classes", "in_channels"))
    finished(tmp_path, "train_source", *phantom_flags, *SIZE, *BRIEF, *MINE, "--networks", 1, "--name", "source")
    start = ["--start", "source", "--source", "runs/source/networks/network-00-cycle-0.safetensors"]
    flags = ["--prior", "gaussian", "--test", "1", "--samples", "1", "--name", "target"]
    finished(tmp_path, "svi_target", *phantom_flags, *SIZE, *BRIEF, *MINE, *flags, *start)
    image = nifti_tumours / "images" / "tumour_000.nii.gz"
    finished(tmp_path, "predict", "--run", "runs/target", "--images", image, "--output", "maps")
    assert (tmp_path / "maps" / "tumour_000_mask.nii.gz").exists()
