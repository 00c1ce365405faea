"""The numbers of a training."""

import pytest
import torch

from pyro_dwp.errors import ConfigError
from pyro_dwp.train import Schedule


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"validate_every": 0},
        {"checkpoint_every": -1},
        {"patience": -1},
        {"factor": 0.0},
        {"factor": 1.5},
        {"learning_rate": 1e-7},
        {"learning_rate": float("nan")},
    ],
)
def test_a_number_outside_its_range_is_named(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Schedule(**wrong)


def test_the_stop_rate_is_reached_despite_rounding() -> None:
    rate = 1e-3
    for _ in range(3):
        assert not Schedule().finished(rate)
        rate *= 0.1
    assert rate > 1e-6
    assert Schedule().finished(rate)


def test_a_factor_of_one_keeps_the_rate() -> None:
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    plateau = Schedule(factor=1.0, patience=0).plateau(optimiser)
    for _ in range(50):
        plateau.step(1.0)
    assert optimiser.param_groups[0]["lr"] == 0.1
