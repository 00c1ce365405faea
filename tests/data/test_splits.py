import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_dwp.data import bootstrap, read_split, split_cases, write_split
from pyro_dwp.errors import ConfigError, DataError
from tests.helpers.refusal import refuses

NAMES = [f"case_{number:02d}" for number in range(40)]


@given(st.integers(1, 20), st.integers(0, 10), st.integers(0, 10), st.integers(0, 1000))
def test_parts_have_the_sizes_asked_for_and_never_share_a_case(train, validation, test, seed) -> None:
    split = split_cases(NAMES, train, validation, test, seed)
    assert (len(split.train), len(split.validation), len(split.test)) == (train, validation, test)
    assert len({*split.names}) == train + validation + test


def test_smaller_training_sets_begin_larger_ones_and_the_other_parts_stay() -> None:
    splits = [split_cases(NAMES, train, 5, 10, seed=3) for train in (5, 10, 15, 20)]
    for small, large in pairwise(splits):
        assert large.train[: len(small.train)] == small.train
        assert (small.validation, small.test) == (large.validation, large.test)


def test_a_split_depends_on_its_seed_not_on_the_order_of_names_nor_the_test_set_on_other_parts() -> None:
    split = split_cases(NAMES, 5, 5, 10, seed=1)
    assert split == split_cases(NAMES[::-1], 5, 5, 10, seed=1)
    assert split.test != split_cases(NAMES, 5, 5, 10, seed=2).test
    assert split.test == split_cases(NAMES, 12, 8, 10, seed=1).test
    splits = [split_cases(NAMES, train=5, validation=5, test=15, seed=seed, test_seed=7) for seed in range(3)]
    assert (len({split.test for split in splits}), len({split.train for split in splits})) == (1, 3)


def test_a_bootstrap_repeats_cases_and_follows_its_seed() -> None:
    drawn = bootstrap(NAMES, seed=0)
    assert len(drawn) == len(NAMES)
    assert {*drawn} < {*NAMES}
    assert drawn == bootstrap(NAMES, seed=0) != bootstrap(NAMES, seed=1)


SIZES = [(0, 1, 1, "train"), (1, -1, 1, "validation"), (1, 1, -1, "test"), (1.5, 1, 1, "train"), (30, 5, 10, "are 40")]


@pytest.mark.parametrize(("train", "validation", "test", "token"), SIZES)
def test_sizes_that_cannot_be_are_refused(train, validation, test, token) -> None:
    with refuses(token, error=DataError if train == 30 else ConfigError):
        split_cases(NAMES, train, validation, test, seed=0)


def test_a_split_survives_disk_and_new_cases_but_not_the_loss_of_its_own(tmp_path: Path) -> None:
    split = split_cases(NAMES, 5, 5, 10, seed=1)
    path = write_split(tmp_path / "split.json", split)
    assert read_split(path, [*NAMES, "new"]) == split
    gone = sorted(split.test)[:2]
    with refuses(str(path), *gone, "Put them back"):
        read_split(path, {*NAMES} - {*gone})


BROKEN = ["", "{", "[1]", "3", '{"train": ["a"]}', None]
BROKEN += [{"extra": []}, {"validation": ["a"]}, {"train": ["a", "a"]}]
BROKEN += [{"train": part} for part in (None, "abc", 3, [1], {"a": 1}, [["a"]])]


@pytest.mark.parametrize("stored", BROKEN, ids=str)
def test_a_damaged_split_is_an_error_that_names_the_file(tmp_path: Path, stored) -> None:
    if isinstance(stored, dict):
        stored = json.dumps({"train": ["a"], "validation": [], "test": []} | stored)
    if stored is not None:
        (tmp_path / "split.json").write_text(stored)
    with refuses("split.json", "begin a new run"):
        read_split(tmp_path / "split.json", NAMES)
