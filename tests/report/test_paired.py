from random import Random
from statistics import fmean, stdev

import pytest
from scipy import stats

from pyro_dwp.report.paired import Difference, paired_difference


def difference(*splits: dict[str, float]) -> Difference:
    """Return the paired difference to a method that has 0.5 everywhere."""
    found = paired_difference(dict(enumerate(splits)), {s: dict.fromkeys(row, 0.5) for s, row in enumerate(splits)})
    assert found is not None
    return found


def test_the_paired_difference_is_that_of_the_columns_and_its_error_counts_cases_and_trainings() -> None:
    """Splits 0.25 and 0.35 of two cases each: by hand, trainings² = 0.05²; case b differs from its split by 0.15 and 0.05."""
    found = difference({"a": 0.6, "b": 0.9}, {"a": 0.8, "b": 0.9})
    assert list(found.splits.values()) == pytest.approx([0.25, 0.35])
    assert found.mean == pytest.approx(0.3)
    assert found.standard_error_over_cases == pytest.approx(2 * (0.15 + 0.05) / 4)
    assert found.standard_error == pytest.approx((0.05**2 + 4 * ((0.15 + 0.05) / 4) ** 2) ** 0.5)


def test_one_split_has_an_error_over_cases_and_none_that_claims_to_cover_trainings() -> None:
    found = difference({"a": 0.5, "b": 0.7, "c": 0.9})
    assert found.standard_error_over_cases == pytest.approx(0.2 / 3**0.5)
    assert found.standard_error is found.interval is None
    assert difference({"a": 0.5}).standard_error_over_cases is None


def test_what_only_one_side_has_is_left_out_and_nothing_in_common_has_no_difference() -> None:
    ours, theirs = {0: {"a": 0.6, "b": 0.9}, 1: {"a": 0.7}}, {0: {"a": 0.5, "c": 0.1}, 2: {"a": 0.0}}
    assert paired_difference(ours, theirs).splits == {0: pytest.approx(0.1)}
    assert paired_difference(ours, {1: {"b": 0.5}}) is None


@pytest.mark.parametrize("splits", [2, 3, 5])
def test_the_interval_is_students_with_a_degree_of_freedom_less_than_splits(splits: int) -> None:
    found = difference(*({"a": 0.5 + 0.1 * s**2, "b": 0.6} for s in range(splits)))
    assert found.interval == pytest.approx(stats.t.interval(0.95, splits - 1, found.mean, found.standard_error))


@pytest.mark.parametrize(
    ("scored", "training", "interaction"), [(10, 0, 0), (10, 0.05, 0), (30, 0.05, 0), (30, 0, 0.2)]
)
def test_the_error_of_a_paired_difference_is_no_smaller_than_what_repetition_shows(scored, training, interaction):
    """Three splits of the same or of different cases: 2,000 repetitions, 5 % for chance."""
    random = Random(0)

    def split(cases: list[float]) -> dict[str, float]:
        effect = random.gauss(0, training)
        return {str(i): cases[i] + effect + random.gauss(0, interaction) for i in random.sample(range(30), scored)}

    found = []
    for _ in range(2000):
        cases = [random.gauss(0.5, 0.1) for _ in range(30)]
        found.append(difference(*(split(cases) for _ in range(3))))
    error = fmean(repetition.standard_error**2 for repetition in found) ** 0.5
    spread = stdev(repetition.mean for repetition in found)
    assert 0.95 * spread < error < 1.6 * spread
