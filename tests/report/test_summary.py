from pathlib import Path
from random import Random
from statistics import fmean, stdev
from typing import Any

import pytest

from pyro_dwp.files import write_json
from pyro_dwp.report.summary import paired_difference, summarise, summary_table
from tests.helpers.refusal import refuses


def metrics(dice: dict[str, float], score: str = "test") -> dict[str, Any]:
    mean = fmean(dice.values())
    return {
        score: {
            "mean": {"dice": mean, "iou": mean / 2, "negative_log_likelihood": 0.1, "calibration_error": 0.01},
            "cases": {name: {"dice": value} for name, value in dice.items()},
        },
        "seconds_per_step": 0.5,
        "peak_memory_mib": 100.0,
        "machine": {"device": "cpu", "threads": 1},
    }


def difference(*splits: dict[str, float]) -> dict[str, Any]:
    """Return the paired difference to a method that has Dice 0.5 everywhere."""
    return paired_difference([metrics(s) for s in splits], [metrics(dict.fromkeys(s, 0.5)) for s in splits])


def test_the_paired_difference_is_that_of_the_columns_and_its_error_counts_scans_and_trainings() -> None:
    """Splits 0.25 and 0.35 of two scans each: by hand, trainings² = 0.05²; scan b differs from its split by 0.15 and 0.05."""
    found = difference({"a": 0.6, "b": 0.9}, {"a": 0.8, "b": 0.9})
    assert found["splits"] == pytest.approx([0.25, 0.35])
    assert found["mean"] == pytest.approx(0.3)
    assert found["standard_error_over_scans"] == pytest.approx(2 * (0.15 + 0.05) / 4)
    assert found["standard_error"] == pytest.approx((0.05**2 + 4 * ((0.15 + 0.05) / 4) ** 2) ** 0.5)
    assert found["better"] == 1.0


def test_one_split_has_an_error_over_scans_and_none_that_claims_to_cover_trainings() -> None:
    found = difference({"a": 0.5, "b": 0.7, "c": 0.9})
    assert found["standard_error_over_scans"] == pytest.approx(0.2 / 3**0.5)
    assert found["standard_error"] is None
    assert difference({"a": 0.5})["standard_error_over_scans"] is None


@pytest.mark.parametrize(
    ("scored", "training", "interaction"), [(10, 0, 0), (10, 0.05, 0), (30, 0.05, 0), (30, 0, 0.2)]
)
def test_the_error_of_a_paired_difference_is_no_smaller_than_what_repetition_shows(scored, training, interaction):
    """Three splits of the same or of different scans: 2,000 repetitions, 5 % for chance."""
    random = Random(0)

    def split(scans: list[float]) -> dict[str, float]:
        effect = random.gauss(0, training)
        return {str(i): scans[i] + effect + random.gauss(0, interaction) for i in random.sample(range(30), scored)}

    found = []
    for _ in range(2000):
        scans = [random.gauss(0.5, 0.1) for _ in range(30)]
        found.append(difference(*(split(scans) for _ in range(3))))
    error = fmean(repetition["standard_error"] ** 2 for repetition in found) ** 0.5
    spread = stdev(repetition["mean"] for repetition in found)
    assert 0.95 * spread < error < 1.6 * spread


@pytest.mark.parametrize("score", ["test", "validation"])
def test_the_table_has_mean_and_standard_deviation_over_splits(tmp_path: Path, score: str) -> None:
    folders = {name: [tmp_path / f"{name}-{split}" for split in range(2)] for name in ("ours", "theirs")}
    for name, base in (("ours", 0.5), ("theirs", 0.4)):
        for split, folder in enumerate(folders[name]):
            write_json(folder / "metrics.json", metrics({"a": base + 0.1 * split, "b": base}, score))
    table = summary_table(summarise(folders, "theirs"), "theirs")
    scores = "0.525 (0.035) | 0.263 (0.018) | 0.100 (0.000) | 0.0100 (0.0000)"
    assert f"| ours | {scores} | +0.100 ± 0.000 | 0.50 | 100 |" in table
    one = summary_table(summarise({name: runs[:1] for name, runs in folders.items()}, "theirs"), "theirs")
    assert "| 0.500 | 0.250 | 0.100 | 0.0100 | +0.100 (± 0.000 over scans only) |" in one


@pytest.mark.parametrize("content", [None, "[]", "{"])
def test_an_unfinished_run_is_named(tmp_path: Path, content: str | None) -> None:
    if content:
        (tmp_path / "metrics.json").write_text(content)
    with refuses("metrics.json", "--resume"):
        summarise({"ours": [tmp_path]}, "ours")
