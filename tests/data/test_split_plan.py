import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyro_dwp.data import SplitPlan, bootstrap, read_split, write_split
from pyro_dwp.errors import ConfigError
from tests.helpers.refusal import refuses

NAMES = [f"case_{number:02d}" for number in range(40)]
VISITS = r"(.+)_T\d+"
PLANS = st.builds(
    SplitPlan,
    train=st.integers(1, 12),
    validation=st.integers(0, 6),
    test=st.integers(0, 8),
    split_seed=st.integers(0, 99),
    test_seed=st.integers(0, 99),
    patients=st.just(VISITS),
)
COHORTS = st.lists(st.integers(1, 3), min_size=32, max_size=40).map(
    lambda visits: [f"p{patient}_T{visit}" for patient, count in enumerate(visits) for visit in range(count)]
)


def plan(**settings: object) -> SplitPlan:
    return SplitPlan(**{"train": 5, "validation": 5, "test": 10} | settings)


def patients(names: tuple[str, ...]) -> set[str]:
    return {name.rpartition("_")[0] for name in names}


@given(PLANS, COHORTS, st.randoms())
def test_parts_have_the_sizes_asked_for_no_patient_is_in_two_and_the_order_of_names_is_nothing(drawn, names, random):
    split = drawn.draw(names)
    assert (len(split.train), len(split.validation), len(split.test)) == (drawn.train, drawn.validation, drawn.test)
    sides = Counter(patient for part in (split.train, split.validation, split.test) for patient in patients(part))
    assert {*sides.values()} == {1}
    assert drawn.draw(random.sample(names, len(names))) == split


@given(PLANS, COHORTS)
def test_smaller_training_sets_begin_larger_ones_and_the_other_parts_stay(drawn, names):
    splits = [SplitPlan(**vars(drawn) | {"train": train}).draw(names) for train in (2, 5, 7, 12)]
    for small, large in pairwise(splits):
        assert large.train[: len(small.train)] == small.train
        assert (small.validation, small.test) == (large.validation, large.test)


@pytest.mark.parametrize("rule", [None, VISITS])
def test_the_test_scans_depend_on_their_number_and_seed_alone(rule):
    names = [f"{name}_T{visit}" for name in NAMES for visit in (1, 2)]
    splits = [
        plan(patients=rule, train=train, validation=seed, split_seed=seed) for seed, train in enumerate((5, 9, 20))
    ]
    drawn = [one.draw(names) for one in splits]
    assert (len({split.test for split in drawn}), len({split.train for split in drawn})) == (1, 3)
    assert plan(patients=rule, test_seed=1).draw(names).test != drawn[0].test
    assert drawn[0].test == plan(patients=rule, test=14).draw(names).test[:10]


def test_without_patients_the_test_scans_are_dealt_first_and_the_rest_is_shuffled_anew():
    def shuffled(names: list[str], seed: int) -> list[str]:
        order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed))
        return [sorted(names)[index] for index in order]

    dealt = shuffled(NAMES, 7)
    others = shuffled(dealt[10:], 3)
    split = plan(split_seed=3, test_seed=7).draw(NAMES)
    assert split.names == (*others[5:10], *others[:5], *dealt[:10])


@given(st.integers(2, 7), st.integers(0, 99), COHORTS)
def test_each_case_is_a_test_case_in_one_fold_and_folds_differ_by_at_most_the_scans_of_a_patient(folds, seed, names):
    splits = [
        plan(train=None, folds=folds, fold=fold, test_seed=seed, patients=VISITS).draw(names) for fold in range(folds)
    ]
    assert Counter(name for split in splits for name in split.test) == Counter(names)
    sizes = [len(split.test) for split in splits]
    assert max(sizes) - min(sizes) <= 3
    for split in splits:
        assert not patients(split.test) & patients(split.learned_from)
        assert not patients(split.train) & patients(split.validation)


def test_all_that_are_left_can_be_trained_on_and_none_validated_with():
    split = SplitPlan(train=None, validation=0, test=10).draw(NAMES)
    assert (len(split.train), split.validation, {*split.names}) == (30, (), {*NAMES})
    with refuses("validation", "has none", "--split", "--score", error=ConfigError):
        split.held_out("validation")


@pytest.mark.parametrize("rule", [VISITS, r"(?P<patient>.+)_(T)\d+", "patients.csv"])
def test_a_pattern_with_a_group_and_a_table_name_the_same_patients(rule, tmp_path, monkeypatch):
    monkeypatch.setenv("HERE", str(tmp_path))
    names = [f"{name}_T{visit}" for name in NAMES for visit in (1, 2)]
    lines = [f"{name},scanner A,{name[:-3]}" for name in [*names, "another_T1"]]
    (tmp_path / "patients.csv").write_text("\n".join(["\ufeffcase,scanner,patient", *lines]))
    rule = f"$HERE/{rule}" if rule.endswith(".csv") else rule
    assert plan(patients=rule).draw(names) == plan(patients=VISITS).draw(names)


TABLES = {
    "case,patient\na_T1,a\na_T2,a\n": ["patients.csv", "b_T1", "Add it"],
    "case,patient\na_T1,a\na_T1,b\n": ["patients.csv", "'a_T1'", "one patient"],
    "case,patient\na_T1\n": ["patients.csv", "'a_T1'", "one patient"],
    "scan,patient\na_T1,a\n": ["patients.csv", "scan, patient", "first line"],
    "": ["patients.csv", "none"],
    b"case,patient\n\xff,a\n": ["patients.csv", "utf-8"],
    None: ["patients.csv", "No such file"],
}


@pytest.mark.parametrize("table", TABLES)
def test_a_table_that_does_not_tell_the_patient_of_each_case_is_named(tmp_path, table):
    path = tmp_path / "patients.csv"
    if table is not None:
        path.write_bytes(table if isinstance(table, bytes) else table.encode())
    with refuses(*TABLES[table]):
        plan(patients=str(path)).draw(["a_T1", "a_T2", "b_T1"])


def test_a_case_whose_patient_the_pattern_does_not_find_is_named():
    with refuses("b_T1_again", VISITS, "rename"):
        plan(patients=VISITS).draw(["a_T1", "a_T2", "b_T1_again"])


IMPOSSIBLE = {
    "train": {"train": 0},
    "validation": {"validation": -1},
    "test": {"test": 1.5},
    "folds": {"folds": 1},
    "fold is 3": {"folds": 3, "fold": 3},
    "folds is null": {"fold": 1},
    "by a file": {"folds": 3, "split": "split.json"},
    "2 groups": {"patients": "(.+)_(.+)"},
    "0 groups": {"patients": ".+"},
    "no regular expression": {"patients": "(.+"},
}


@pytest.mark.parametrize("token", IMPOSSIBLE)
def test_settings_that_cannot_be_are_refused(token):
    with refuses(token, error=ConfigError):
        plan(**IMPOSSIBLE[token])


TOO_MANY = {
    "30 cases to train, 5 to validate and 10 to test, but there are 40": {"train": 30},
    "1 cases to train, 30 to validate": {"train": None, "validation": 30},
    "Each of 41 folds": {"folds": 41},
    "40 of 4 patients": {"patients": r"case_(\d)\d", "train": 21},
}


@pytest.mark.parametrize("token", TOO_MANY)
def test_more_than_there_are_is_refused(token):
    with refuses(token, "for fewer"):
        plan(**TOO_MANY[token]).draw(NAMES)


def test_a_file_of_ones_own_is_the_split_and_the_numbers_do_not_count(tmp_path):
    split = plan(split_seed=4).draw(NAMES)
    path = write_split(tmp_path / "mine.json", split)
    assert SplitPlan(train=1, validation=0, test=1, split=path).draw(NAMES) == split


OWN = {
    "case_77": {"train": ["case_01", "case_77"]},
    "case_02": {"train": ["case_02"], "test": ["case_02"]},
    "no case to train on": {"test": ["case_02"]},
    "divides those of 0, 1": {"train": ["case_01", "case_12"], "test": ["case_02", "case_13"]},
}


@pytest.mark.parametrize("token", OWN)
def test_a_file_of_ones_own_that_does_not_fit_the_cases_is_refused(tmp_path, token):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"train": [], "validation": [], "test": []} | OWN[token]))
    with refuses("mine.json", token, "orrect the file"):
        plan(split=path, patients=r"case_(\d)\d").draw(NAMES)


def test_a_bootstrap_repeats_cases_and_follows_its_seed() -> None:
    drawn = bootstrap(NAMES, seed=0)
    assert len(drawn) == len(NAMES)
    assert {*drawn} < {*NAMES}
    assert drawn == bootstrap(NAMES, seed=0) != bootstrap(NAMES, seed=1)


def test_a_split_survives_disk_and_new_cases_but_not_the_loss_of_its_own(tmp_path: Path) -> None:
    split = plan(split_seed=1).draw(NAMES)
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


def test_cases_that_are_left_out_are_in_no_part() -> None:
    names = [f"case{number}" for number in range(8)]
    split = SplitPlan(train=None, validation=2, test=2, leave_out=("case3", "case5")).draw(names)
    assert sorted(split.names) == [name for name in names if name not in ("case3", "case5")]
    with refuses("leave_out", "'case9'"):
        SplitPlan(leave_out=("case9",)).draw(names)
