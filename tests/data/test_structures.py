"""Names of what is scored, and the classes that they stand for."""

import pytest
import torch

from pyro_dwp.data import Preprocess
from pyro_dwp.data.structures import class_names, classes_of_structures
from pyro_dwp.errors import ConfigError
from tests.helpers.refusal import refuses

BRATS = {1: 1, 2: 2, 4: 3}


@pytest.mark.parametrize("label_map", [None, BRATS, {1: 1, 4: 1, 2: 2}])
def test_a_structures_classes_hold_the_voxels_of_its_labels(label_map):
    labels = torch.tensor([0, 1, 2, 4])
    classes = labels if label_map is None else torch.tensor([0, *(label_map[label] for label in (1, 2, 4))])
    for name, members in classes_of_structures({"whole": [1, 2, 4], "core": [1, 4]}, label_map, 5).items():
        expected = (labels != 0) & ((labels != 2) | (name == "whole"))
        assert torch.equal(torch.isin(classes, torch.tensor(members)), expected)


@pytest.mark.parametrize(
    ("structures", "label_map", "tokens"),
    [
        ({"core": [3]}, BRATS, ["'core'", "3", "[1, 2, 4]"]),
        ({"core": [0]}, None, ["'core'", "0"]),
        ({"core": [1]}, {1: 1, 4: 1}, ["merges 4", "'core'"]),
    ],
)
def test_labels_that_make_up_no_classes_are_refused(structures, label_map, tokens):
    with refuses(*tokens, error=ConfigError):
        classes_of_structures(structures, label_map, 4)


@pytest.mark.parametrize("names", [["a/b"], [""], ["core_"], ["core:1"], ["whole tumour", "whole_tumour"]])
def test_names_that_no_file_or_column_can_have_are_refused(names):
    with refuses("structures", "name", error=ConfigError):
        Preprocess(structures={name: [1] for name in names})


def test_a_legend_calls_a_class_by_its_structure_only_if_that_is_the_class_alone():
    assert class_names({"whole": [1, 2, 4], "oedema": [2]}, BRATS, 4) == ("label 1", "oedema", "label 4")
    assert class_names(None, {1: 1, 2: 1, 4: 2}, 3) == ("label 1", "label 2")
