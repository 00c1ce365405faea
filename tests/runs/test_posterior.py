"""Posteriors of finished runs, one or several."""

from pathlib import Path

import pytest

from pyro_dwp.data import Preprocess
from pyro_dwp.errors import ConfigError
from pyro_dwp.predict import Calibration
from pyro_dwp.runs import mixture
from pyro_dwp.runs.posterior import NoGuide, Posterior
from tests.helpers.refusal import refuses


def member(*sequences: str, folder: str = "runs/a") -> Posterior:
    """A posterior without a network, of two channels."""
    facts = Preprocess(), 2, 2, 1, None, sequences, None, Calibration(), Path(folder), "cpu"
    return Posterior(None, NoGuide(), *facts)


@pytest.mark.parametrize("other", [("flair", "t1"), ("t1c", "t2")])
def test_members_of_an_ensemble_have_their_sequences_in_one_order(other):
    mixture([member("flair", "t1"), member(*other)])
    with refuses("runs/a", "flair, t1", "runs/b", "t1, flair", error=ConfigError):
        mixture([member("flair", "t1"), member(*other), member("t1", "flair", folder="runs/b")])
