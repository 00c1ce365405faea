"""Settings for a set of scans and a machine: they run, they fit, and each says why."""

from dataclasses import replace
from math import prod

import pytest
import torch

from pyro_dwp.data import Preprocess
from pyro_dwp.intake import propose, settings_of_data, survey
from pyro_dwp.intake.budget import Budget, fit_patch
from pyro_dwp.intake.grid_choice import ENOUGH
from pyro_dwp.safe_yaml import parse
from pyro_dwp.settings.tree import Text
from pyro_dwp.train import Machine
from tests.helpers.refusal import refuses

CPU = Machine("cpu", threads=1)
DATA = {"class": "folder", "folder": "scans"}


def proposed(source, machine=CPU, given=None):
    return propose(survey(source, show=False), machine, DATA, given)


def test_the_yaml_reads_back_as_the_settings_and_gives_reasons(make, listed):
    found = proposed(listed(*(make(name, values=(1, 4)) for name in "abcdefghij")))
    text = found.to_yaml()
    assert parse(text, "text") == found.tree()
    assert "Highest Dice that this grid permits" in text
    assert text.count("#") > 10
    assert found.tree()["data"] == DATA


def test_labels_with_gaps_become_classes_without(make, listed):
    source = listed(*(make(name, values=(2, 4)) for name in "abc"), named={"core": [4], "whole": [2, 4], "absent": [9]})
    tree = proposed(source).tree()
    assert tree["preprocess"]["label_map"] == {2: 1, 4: 2}
    assert tree["preprocess"]["structures"] == {"core": [4], "whole": [2, 4]}
    assert tree["network"] == {"class": "unet", "in_channels": 1, "classes": 3}
    assert "label_map" not in proposed(listed(*(make(name, values=(1, 2)) for name in "abc"))).tree()["preprocess"]


@pytest.mark.parametrize("cases", [2, 3, 5, 8, 10, 15])
def test_all_usable_cases_are_dealt_and_a_schedule_without_validation_needs_none(make, listed, cases):
    names = [f"case{number}" for number in range(cases)]
    tree = proposed(listed("torn", *(make(name) for name in names))).tree()
    assert tree["train"] + tree["validation"] + tree["test"] == cases
    assert min(tree["train"], tree["test"]) >= 1
    assert (tree["schedule"].get("decay") == "cosine") == (tree["validation"] == 0)
    assert tree["leave_out"] == ["torn"]


def test_a_small_lesion_gets_a_finer_grid_than_a_large_one(make, listed):
    shape = (96, 96, 96)
    sources = [listed(*(make(name, radius=radius, shape=shape) for name in "abc")) for radius in (30.0, 3.0)]
    large, small = (prod(proposed(source).tree()["preprocess"].get("grid", shape)) for source in sources)
    assert large < small


def test_the_grid_is_the_coarsest_that_keeps_the_labels(make, listed):
    found = proposed(listed(*(make(name, radius=4.0, shape=(80, 80, 80)) for name in "abc")))
    dice = float(found.summary[1].partition("permits: ")[2][:4])
    assert ENOUGH <= dice < 1


def test_what_is_given_is_kept(make, listed):
    scans = [make(name, shape=(40, 40, 40 + 2 * number)) for number, name in enumerate("abc")]
    tree = proposed(listed(*scans), given=Preprocess(spacing=(2.0, 2.0, 2.0))).tree()
    assert tree["preprocess"]["spacing"] == [2.0, 2.0, 2.0]
    assert tree["patch"] == [20, 20, 20]  # so that scans of different shapes make a batch
    merged = proposed(listed(*(make(name, values=(1, 2)) for name in "abc")), given=Preprocess(label_map={1: 1, 2: 1}))
    assert merged.tree()["network"]["classes"] == 2


def test_little_memory_means_patches_that_fit(make, listed, monkeypatch):
    monkeypatch.setattr(Machine, "memory", 2**26)
    source = listed(*(make(name, radius=4.0, shape=(80, 80, 80)) for name in "abc"))
    tree = proposed(source).tree()
    voxels = tree["schedule"]["batch_size"] * prod(tree["patch"])
    assert voxels <= Budget.of(CPU).step_voxels(400) < 80**3


@pytest.mark.parametrize("asked", [{"steps": Text("1200")}, {"epochs": Text("300")}])
def test_the_time_that_is_named_is_that_of_the_schedule_that_is_asked_for(make, listed, asked):
    found = survey(listed(*(make(name, radius=4.0, shape=(64, 64, 64)) for name in "abcdefghijkl")), show=False)
    own, longer, shorter = (propose(found, CPU, DATA, schedule=flags) for flags in (None, asked, {"steps": 1}))
    assert own.tree() == longer.tree()
    minutes = [float(proposal.summary[2].split()[1]) for proposal in (shorter, own, longer)]
    assert minutes[1] > 1.5 * minutes[0]
    assert minutes[2] - minutes[0] == pytest.approx(3 * (minutes[1] - minutes[0]), abs=3)


PATCHES = [((200, 200, 24), 1e5), ((9, 300, 300), 5e5), ((64, 64, 64), 64**3), ((7, 8, 9), 1e9)]


@pytest.mark.parametrize(("grid", "voxels"), PATCHES)
def test_a_patch_lies_in_the_grid_and_keeps_to_its_voxels(grid, voxels):
    patch = fit_patch(grid, voxels)
    assert all(edge <= whole for edge, whole in zip(patch, grid, strict=True))
    assert prod(patch) <= voxels
    assert prod(patch) > 0.4 * min(voxels, prod(grid))


def test_nothing_usable_is_refused(make, listed):
    with refuses("only one", "Label another"):
        proposed(listed(make("a")))
    with refuses("nothing to learn from"):
        proposed(listed(*(replace(make(name), label=torch.zeros(24, 26, 20).long()) for name in "ab")))


def test_a_folder_where_a_class_is_expected_stands_for_the_class_that_reads_it(tmp_path):
    assert settings_of_data({"data": Text("phantoms"), "seed": 1}) == (None, {"data": Text("phantoms"), "seed": 1})
    assert settings_of_data({}) == (None, {})
    make, flags = settings_of_data({"data": {"class": Text(tmp_path), "images": Text("t1,t2")}, "seed": 1})
    assert make is not None
    assert flags == {"data": {"class": "folder", "folder": str(tmp_path), "images": "t1,t2"}, "seed": 1}
