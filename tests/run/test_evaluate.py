"""run/evaluate.py as a user calls it."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pyro_dwp.data import write_volume
from pyro_dwp.metrics import score_case


@pytest.fixture
def evaluate(call: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Return a function that runs the script with these arguments."""
    return lambda *arguments: call(tmp_path, "evaluate", *arguments)


@pytest.fixture
def labels() -> Tensor:
    """Masks of two predictions, then of two truths: (4, D, H, W)."""
    return torch.randint(0, 2, (4, 5, 6, 7), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def folders(labels: Tensor, tmp_path: Path) -> list[str | Path]:
    for index, name in enumerate(("predictions/a_mask", "predictions/b", "truths/a", "truths/b")):
        write_volume(tmp_path / f"{name}.nii.gz", labels[index], np.eye(4), "uint8")
    return ["--predictions", tmp_path / "predictions", "--truths", tmp_path / "truths"]


def test_the_table_is_printed_and_written(
    evaluate: Callable[..., Any], folders: list[str | Path], labels: Tensor, tmp_path: Path
) -> None:
    done = evaluate(*folders, "--output", tmp_path / "scores")
    assert (done.status, done.err) == (0, "")
    expected = {"a": score_case(labels[0], labels[2], 2), "b": score_case(labels[1], labels[3], 2)}
    stored = json.loads((tmp_path / "scores" / "scores.json").read_text())
    assert stored["cases"] == expected
    assert stored["count"] == 2
    rows = list(csv.DictReader((tmp_path / "scores" / "scores.csv").read_text().splitlines()))
    assert [row["case"] for row in rows] == ["a", "b", "mean", "std"]
    assert float(rows[2]["dice"]) == pytest.approx((expected["a"]["dice"] + expected["b"]["dice"]) / 2)
    assert f"{expected['a']['iou']:.4f}" in done.out


def test_labels_of_the_truths_are_merged_by_a_map(
    evaluate: Callable[..., Any], folders: list[str | Path], labels: Tensor, tmp_path: Path
) -> None:
    for index, name in ((2, "a"), (3, "b")):
        write_volume(tmp_path / "truths" / f"{name}.nii.gz", 2 * labels[index], np.eye(4), "uint8")
    done = evaluate(*folders, "--label_map", "{2: 1}", "--output", tmp_path)
    assert done.status == 0
    assert json.loads((tmp_path / "scores.json").read_text())["cases"]["a"] == score_case(labels[0], labels[2], 2)


def test_bad_input_is_one_line_and_status_2_and_writes_nothing(
    evaluate: Callable[..., Any], folders: list[str | Path], tmp_path: Path
) -> None:
    (tmp_path / "truths" / "b.nii.gz").unlink()
    done = evaluate(*folders, "--output", tmp_path / "scores")
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("error: Each prediction has a truth")
    assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "scores").exists()
