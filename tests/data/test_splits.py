import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_dwp.data import Split, bootstrap, keep_split, split_cases
from pyro_dwp.errors import DataError

NAMES = [f"case_{number:02d}" for number in range(40)]


@given(st.integers(1, 20), st.integers(0, 10), st.integers(0, 10), st.integers(0, 1000))
def test_parts_have_the_sizes_asked_for_and_never_share_a_case(train, validation, test, seed) -> None:
    split = split_cases(NAMES, train, validation, test, seed)
    assert (len(split.train), len(split.validation), len(split.test)) == (train, validation, test)
    assert len({*split.train, *split.validation, *split.test}) == train + validation + test


def test_smaller_training_sets_begin_larger_ones_and_the_other_parts_stay() -> None:
    splits = [split_cases(NAMES, train, 5, 10, seed=3) for train in (5, 10, 15, 20)]
    for small, large in pairwise(splits):
        assert large.train[: len(small.train)] == small.train
        assert (small.validation, small.test) == (large.validation, large.test)


def test_the_test_set_does_not_depend_on_the_other_parts() -> None:
    assert split_cases(NAMES, 5, 0, 10, seed=1).test == split_cases(NAMES, 12, 8, 10, seed=1).test


def test_the_order_of_the_names_does_not_matter() -> None:
    assert split_cases(NAMES[::-1], 5, 5, 10, seed=1) == split_cases(NAMES, 5, 5, 10, seed=1)


def test_another_seed_is_another_split() -> None:
    assert split_cases(NAMES, 5, 5, 10, seed=1).test != split_cases(NAMES, 5, 5, 10, seed=2).test


def test_too_few_cases_are_counted() -> None:
    with pytest.raises(DataError, match="30 cases to train, 5 to validate and 10 to test are 45, but there are 40"):
        split_cases(NAMES, 30, 5, 10, seed=0)


@pytest.mark.parametrize("sizes", [(0, 1, 1), (1, -1, 1), (1, 1, -1)])
def test_sizes_that_cannot_be_are_refused(sizes) -> None:
    with pytest.raises(DataError, match="at least one training case"):
        split_cases(NAMES, *sizes, seed=0)


def test_a_split_survives_json() -> None:
    split = split_cases(NAMES, 5, 5, 10, seed=1)
    assert Split.from_dict(json.loads(json.dumps(split.to_dict()))) == split


def test_a_stored_split_whose_parts_share_a_case_is_refused() -> None:
    with pytest.raises(DataError, match="appear again: b"):
        Split.from_dict({"train": ["a", "b"], "validation": ["b"], "test": []})


def test_a_stored_split_without_a_part_is_refused() -> None:
    with pytest.raises(DataError, match="this one has train"):
        Split.from_dict({"train": ["a"]})


def test_a_bootstrap_repeats_cases_and_follows_its_seed() -> None:
    drawn = bootstrap(NAMES, seed=0)
    assert len(drawn) == len(NAMES)
    assert set(drawn) < set(NAMES)
    assert drawn == bootstrap(NAMES, seed=0) != bootstrap(NAMES, seed=1)


def test_with_a_test_seed_every_split_has_the_same_test_cases_and_other_training_cases() -> None:
    names = [f"case_{number}" for number in range(30)]
    splits = [split_cases(names, train=5, validation=5, test=15, seed=seed, test_seed=7) for seed in range(3)]
    assert len({split.test for split in splits}) == 1
    assert len({split.train for split in splits}) == 3


def test_a_kept_split_is_drawn_once_and_then_read(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    first = keep_split(path, NAMES, lambda: split_cases(NAMES, 5, 5, 10, seed=1))
    before = path.read_bytes()
    assert first == split_cases(NAMES, 5, 5, 10, seed=1)
    assert keep_split(path, [*NAMES, "new"], lambda: pytest.fail("drawn again")) == first
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_kept_split_whose_cases_have_gone_is_an_error_that_names_them(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    kept = keep_split(path, NAMES, lambda: split_cases(NAMES, 5, 5, 10, seed=1))
    left = [name for name in NAMES if name not in kept.test[:2]]
    with pytest.raises(DataError, match=f"split.json.*{min(kept.test[:2])}, {max(kept.test[:2])}.*Put them back"):
        keep_split(path, left, lambda: split_cases(left, 5, 5, 10, seed=1))


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", "3", '{"train": null, "validation": [], "test": []}', '{"train": []}']
)
def test_a_damaged_split_is_an_error_that_names_the_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(DataError, match=r"split\.json.*begin a new run"):
        keep_split(tmp_path / "split.json", NAMES, lambda: split_cases(NAMES, 5, 5, 10, seed=1))
