import json
from pathlib import Path

import pytest

from pyro_dwp.errors import DataError
from pyro_dwp.report.summary import paired_difference, summarise, summary_table


def metrics(dice: dict[str, float]) -> dict:
    mean = sum(dice.values()) / len(dice)
    return {
        "test": {
            "mean": {"dice": mean, "iou": mean / 2, "negative_log_likelihood": 0.1, "calibration_error": 0.01},
            "cases": {name: {"dice": value} for name, value in dice.items()},
        },
        "seconds_per_step": 0.5,
        "peak_memory_mib": 100.0,
        "machine": {"device": "cpu", "threads": 1},
    }


def finished(folder: Path, dice: dict[str, float]) -> Path:
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(metrics(dice)))
    return folder


def test_the_paired_difference_counts_a_scan_of_several_splits_once() -> None:
    ours = [metrics({"a": 0.5, "b": 0.9}), metrics({"a": 0.7, "b": 0.9})]
    theirs = [metrics({"a": 0.4, "b": 0.5}), metrics({"a": 0.4, "b": 0.5})]
    found = paired_difference(ours, theirs)
    assert found["mean"] == pytest.approx((0.2 + 0.4) / 2)
    assert found["standard_error"] == pytest.approx(0.1)
    assert found["better"] == 1.0


def test_the_table_has_mean_and_standard_deviation_over_splits(tmp_path: Path) -> None:
    folders = {
        name: [finished(tmp_path / f"{name}-{i}", {"a": base + 0.1 * i, "b": base}) for i in range(3)]
        for name, base in (("ours", 0.5), ("theirs", 0.4))
    }
    rows = summarise(folders, reference="theirs")
    assert rows["ours"]["dice"]["mean"] == pytest.approx(0.55)
    assert rows["ours"]["dice"]["std"] == pytest.approx(0.05)
    assert rows["ours"]["difference"]["mean"] == pytest.approx(0.1)
    table = summary_table(rows, "theirs")
    assert (
        "| ours | 0.550 (0.050) | 0.275 (0.025) | 0.100 (0.000) | 0.0100 (0.0000) | +0.100 ± 0.000 | 0.50 | 100 |"
        in (table.splitlines())
    )


def test_runs_that_scored_validation_scans_are_summarised_alike(tmp_path: Path) -> None:
    folder = finished(tmp_path / "ours", {"a": 0.5, "b": 0.7})
    found = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps({"validation": found.pop("test"), **found}))
    assert summarise({"ours": [folder]}, "ours")["ours"]["dice"]["mean"] == pytest.approx(0.6)


def test_an_unfinished_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.*has not finished"):
        summarise({"ours": [tmp_path / "none"]}, "ours")
