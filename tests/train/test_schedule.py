"""The numbers of a training, of a machine and of the fit of a prior."""

import math

import pytest
import torch

from pyro_dwp import priors
from pyro_dwp.errors import ConfigError
from pyro_dwp.settings import without_alternatives
from pyro_dwp.train import Machine, Schedule
from tests.helpers.refusal import refuses

NOT_FINITE = (math.nan, math.inf)


@pytest.mark.parametrize(
    ("family", "wrong"),
    [
        *(
            (Schedule, {name: value})
            for name in ("epochs", "batch_size", "validate_every", "checkpoint_every")
            for value in (0, -1, 10**7, 1.5, True)
        ),
        *((Schedule, {name: x}) for name in ("factor", "learning_rate", "threshold", "stop_rate") for x in NOT_FINITE),
        *((Schedule, {name: -1.0}) for name in ("threshold", "stop_rate")),
        *((Schedule, {"factor": value}) for value in (0.0, 1.5)),
        *((Schedule, {"learning_rate": value}) for value in (0.0, 1e-7)),
        (Schedule, {"patience": -1}),
        *((Machine, {"threads": value}) for value in (0, -1, 10**6, 1.5)),
        *((priors.MixtureFit, {name: value}) for name in ("components", "steps") for value in (0, -1, 10**9, 1.5)),
        *((priors.MixtureFit, {"shrinkage": value}) for value in (0.0, -1.0, math.nan)),
        *((priors.FlowFit, {name: value}) for name in ("transforms", "hidden", "bins") for value in (-1, 10**9)),
        *((priors.DeepWeightFit, {name: value}) for name in ("latent", "hidden") for value in (0, 10**9)),
        (priors.DeepWeightFit, {"variant": "dence"}),
        (priors.EmpiricalFit, {"student_t": 1}),
    ],
    ids=str,
)
def test_a_setting_outside_its_range_is_named(family: type, wrong: dict) -> None:
    with refuses(family.__name__, *wrong, error=ConfigError):
        family(**wrong)


def test_the_stop_rate_is_reached_despite_rounding() -> None:
    rate = 1e-3
    for _ in range(3):
        assert not Schedule().finished(rate)
        rate *= 0.1
    assert rate > 1e-6
    assert Schedule().finished(rate)


def test_a_factor_of_one_keeps_the_rate() -> None:
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    plateau = Schedule(factor=1.0, patience=0).rule(optimiser, 1)
    for _ in range(50):
        plateau.step(1.0)
    assert optimiser.param_groups[0]["lr"] == 0.1


def test_a_cosine_falls_from_the_start_to_nothing_over_the_length_and_ignores_the_losses() -> None:
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    schedule = Schedule(steps=30, batch_size=2, decay="cosine", learning_rate=0.1)
    assert schedule.length(5) == 10  # three batches an epoch
    rule, rates = schedule.rule(optimiser, 5), []
    for loss in range(10):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.advance(rule, float(loss) if loss % 2 else None)
    expected = [0.1 * (1 + math.cos(math.pi * epoch / 10)) / 2 for epoch in range(10)]
    assert rates == pytest.approx(expected)
    assert optimiser.param_groups[0]["lr"] == pytest.approx(0)
    assert not schedule.finished(0.0)


def script(schedule: Schedule) -> None:
    """Stand for a script, whose settings lie one level deeper."""


def test_a_length_in_epochs_replaces_one_in_steps_below_it_and_the_other_way_round() -> None:
    steps, epochs = {"steps": 400}, {"epochs": 3}
    for lower, upper, length in ((steps, epochs, 3), (epochs, steps, 200)):
        tree = without_alternatives(script, {"schedule": lower | upper}, {"schedule": upper})
        assert Schedule(**tree["schedule"]).length(4) == length
    with refuses("both are null", "Give one", error=ConfigError):
        Schedule(epochs=None)
