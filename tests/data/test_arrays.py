"""Cases from arrays in memory."""

import numpy as np
import pytest
import torch

from pyro_dwp import Arrays, CaseSource
from pyro_dwp.data import Preprocess, check_cases
from pyro_dwp.errors import ConfigError
from pyro_dwp.settings.classes import find_class
from tests.helpers.refusal import refuses

IMAGE, LABEL = np.random.default_rng(0).uniform(1, 2, (4, 5, 6)), np.ones((4, 5, 6), np.uint8)


def test_arrays_and_tensors_are_cases_on_a_grid_of_the_given_spacing() -> None:
    source = Arrays([IMAGE, torch.rand(1, 4, 5, 6)], [LABEL, None], spacing=(1, 2, 3), names=["b", "a"])
    assert (source.names(), source.unlabelled(), source.sequences()) == (["b"], ["a"], ["0"])
    scan = source.load("b")
    assert (scan.image.dtype, scan.image.shape, scan.spacing) == (torch.float32, (1, 4, 5, 6), (1.0, 2.0, 3.0))
    assert torch.equal(scan.label, torch.ones(4, 5, 6, dtype=torch.int64))
    assert check_cases(source, ["b"], Preprocess(grid=(2, 2, 2)), 2).grids == {"b": (2, 2, 2)}
    assert Arrays([IMAGE]).names() == Arrays([IMAGE]).unlabelled() == ["case_0"]
    assert Arrays([np.stack([IMAGE, IMAGE])]).sequences() == ["0", "1"]


@pytest.mark.parametrize(
    ("arguments", "error", "tokens"),
    [
        (([IMAGE], [LABEL, LABEL]), ConfigError, ["has 1, 2 and 1"]),
        (([],), ConfigError, ["has 0"]),
        (([IMAGE], [LABEL], (1, 2)), ConfigError, ["three distances"]),
        (([IMAGE], [LABEL], (1, 2, -1)), ConfigError, ["three distances"]),
        (([IMAGE[0]],), None, ["case_0", "(5, 6)"]),
        (([IMAGE * np.nan],), None, ["case_0", "finite"]),
        (([IMAGE], [LABEL[1:]]), None, ["case_0", "(3, 5, 6)", "(4, 5, 6)"]),
        (([IMAGE], [LABEL - 0.5]), None, ["whole numbers", "case_0"]),
        (([IMAGE], [-1.0 * LABEL]), None, ["non-negative", "case_0"]),
    ],
)
def test_arrays_that_cannot_be_cases_are_refused(arguments, error, tokens) -> None:
    with refuses(*tokens, **({"error": error} if error else {})):
        Arrays(*arguments)


def test_arrays_are_no_source_of_a_config() -> None:
    with refuses("'arrays'", "folder", error=ConfigError):
        find_class("arrays", CaseSource, "data")
