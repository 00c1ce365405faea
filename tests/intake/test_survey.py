"""A set of scans, each read once: facts that can be checked by hand, and every problem in one pass."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from pyro_dwp.data import Folder, FolderPairs, write_volume
from pyro_dwp.intake import survey


def test_volumes_are_those_of_the_labels_in_ml_and_each_case_is_read_once(make, listed):
    source = listed(make("a", spacing=(1.0, 2.0, 3.0), radius=8.0), make("b", spacing=(1.0, 2.0, 3.0), values=(1, 2)))
    found = survey(source, show=False)
    assert source.read == ["a", "b"]
    for name, scan in source.scans.items():
        expected = {
            value: int((scan.label == value).sum()) * 6 / 1000 for value in scan.label.unique().tolist() if value
        }
        assert found.cases[name].volumes == pytest.approx(expected)
    assert found.cases["a"].volumes[1] == pytest.approx(4 / 3 * math.pi * 0.8**3, rel=0.1)
    assert found.labels == [1, 2]


def problems(found, case):
    return [problem for problem in found.problems if problem.case == case]


def test_every_problem_is_found_in_one_pass_and_spoils_only_its_own_case(make, listed):
    good = [make(name) for name in "abcd"]
    copy = replace(good[0], name="copy")
    odd = make("odd", values=(1, 7))
    wide = make("wide", spacing=(1.0, 1.0, 4.0))
    two = make("two", channels=2)
    empty = replace(make("empty"), label=torch.zeros(24, 26, 20, dtype=torch.int64))
    none = replace(make("none"), label=None)
    swapped = replace(make("swapped", radius=4.0), image=make("swapped", radius=4.5).label.float()[None])
    source = listed(*good, copy, odd, wide, two, empty, none, swapped, make("mask", radius=4.5), "torn")
    found = survey(source, show=False)
    tokens = {
        "copy": "same image as a",
        "odd": "label 7",
        "wide": "1 x 1 x 4 mm",
        "two": "2 channel(s)",
        "empty": "no foreground",
        "none": "no label",
        "swapped": "label of mask",
        "torn": "truncated",
    }
    assert [name for name, token in tokens.items() if not any(token in it.text for it in problems(found, name))] == []
    assert set(found.left_out) == {"copy", "two", "none", "swapped", "torn"}
    assert set(found.usable) == {*"abcd", "odd", "wide", "empty", "mask"}
    assert all(name in found.report() for name in tokens)


def test_good_scans_have_no_problem(make, listed):
    assert survey(listed(make("a", 5.0), make("b", 6.0), make("c", 7.0)), show=False).problems == ()


def test_a_lost_spacing_is_told_once(make, listed):
    source = listed(*(make(name, shape=(40, 40, 8)) for name in "abc"))
    (problem,) = [it for it in survey(source, show=False).problems if not it.case]
    assert "1 mm" in problem.text


def test_the_orientation_is_that_of_the_file(make, tmp_path):
    scan = make("a")
    for name, sign in (("left", -1.0), ("right", 1.0)):
        affine = np.diag([sign, 1.0, 1.0, 1.0])
        write_volume(tmp_path / "images" / f"{name}.nii.gz", scan.image[0], affine, np.float32)
        write_volume(tmp_path / "labels" / f"{name}.nii.gz", scan.label, affine, np.uint8)
    found = survey(FolderPairs(tmp_path / "images", tmp_path / "labels"), show=False)
    assert {name: facts.axes for name, facts in found.cases.items()} == {"left": "LAS", "right": "RAS"}


def test_the_table_has_a_line_for_each_case_and_fits_100_columns(make, listed):
    name = "a_long_name_of_a_patient_and_a_visit_20260101"
    lines = survey(listed(make(name, values=range(1, 9)), make("b")), show=False).table().splitlines()
    assert max(map(len, lines)) <= 100
    assert sum(line.startswith(("a_long", "b")) for line in lines) == 2


def test_a_label_under_another_number_comes_with_the_setting_that_merges_it(make, listed):
    source = listed(*(make(name) for name in "abc"), make("odd", values=(255,)))
    (problem,) = [it for it in survey(source, show=False).problems if it.case == "odd"]
    assert "--preprocess.label_map '{1: 1, 255: 1}'" in problem.text
    assert not problem.error


def test_a_folder_without_labels_says_so_once_for_each_case(make, tmp_path):
    for name in "ab":
        write_volume(tmp_path / f"{name}.nii.gz", make(name).image[0], np.eye(4), np.float32)
    found = survey(Folder(tmp_path), show=False)
    assert [problem.case for problem in found.problems] == ["a", "b"]
