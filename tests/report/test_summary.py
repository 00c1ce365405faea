import json
from pathlib import Path
from random import Random
from statistics import fmean, stdev

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


def test_the_paired_difference_is_that_of_the_columns_and_its_error_counts_scans_and_trainings() -> None:
    """Splits 0.25 and 0.35 of two scans each: by hand, trainings² = 0.05²; scan b differs from its split by 0.15 and 0.05."""
    ours = [metrics({"a": 0.5, "b": 0.9}), metrics({"a": 0.7, "b": 0.9})]
    theirs = [metrics({"a": 0.4, "b": 0.5}), metrics({"a": 0.4, "b": 0.5})]
    found = paired_difference(ours, theirs)
    assert found["splits"] == pytest.approx([0.25, 0.35])
    assert found["mean"] == pytest.approx(0.3)
    assert found["standard_error"] == pytest.approx((0.05**2 + 2 * 2 * ((0.15 + 0.05) / 4) ** 2) ** 0.5)
    assert found["better"] == 1.0


def test_the_error_of_a_paired_difference_of_one_split_is_that_over_scans() -> None:
    ours, theirs = metrics({"a": 0.5, "b": 0.7, "c": 0.9}), metrics(dict.fromkeys("abc", 0.5))
    assert paired_difference([ours], [theirs])["standard_error"] == pytest.approx(0.2 / 3**0.5)
    assert paired_difference([metrics({"a": 0.5})], [metrics({"a": 0.4})])["standard_error"] is None


@pytest.mark.parametrize("tau", [0.0, 0.05])
def test_the_error_of_a_paired_difference_is_no_smaller_than_what_repetition_shows(tau: float) -> None:
    """Three splits of 10 of 30 scans, trainings with an effect of their own: 2,000 repetitions, 5 % for chance."""
    random = Random(0)
    means, errors = [], []
    for _ in range(2000):
        scan = [random.gauss(0, 0.1) for _ in range(30)]
        splits = []
        for _ in range(3):
            effect = random.gauss(0, tau)
            splits.append({str(i): 0.5 + scan[i] + effect for i in random.sample(range(30), 10)})
        found = paired_difference(
            [metrics(split) for split in splits], [metrics(dict.fromkeys(split, 0.5)) for split in splits]
        )
        means.append(found["mean"])
        errors.append(found["standard_error"] ** 2)
    truth = stdev(means)
    assert 0.95 * truth < fmean(errors) ** 0.5 < 1.6 * truth


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
