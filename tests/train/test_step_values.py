"""The losses of an epoch: a CPU's are checked at once, and another device's are not read before the epoch is over."""

import pytest
import torch

from pyro_dwp.errors import TrainingError
from pyro_dwp.train.step_values import StepValues
from tests.helpers.refusal import refuses


@pytest.mark.parametrize("kind", [float, torch.tensor])
def test_a_loss_that_is_not_finite_is_refused_at_its_step_with_the_part_that_is_to_blame(kind) -> None:
    steps = StepValues(2)
    steps.add({"loss": kind(1.0), "kl": kind(1.0)}, weight=1)
    with refuses("epoch 2, step 2", "not finite: kl", error=TrainingError):
        steps.add({"loss": kind(torch.nan), "kl": kind(torch.inf)}, weight=1)


def test_the_step_whose_loss_another_device_found_not_finite_is_named_when_the_epoch_is_over(device) -> None:
    steps = StepValues(2)
    losses = torch.tensor([1.0, torch.nan, torch.nan], device=device)
    with refuses("epoch 2, step 2", error=TrainingError):
        for loss in losses:
            steps.add({"loss": loss}, weight=1)
        steps.sums()


def test_a_value_that_another_device_computes_is_not_read_in_between() -> None:
    steps = StepValues(1)
    steps.add({"loss": torch.zeros((), device="meta")}, weight=1)  # a tensor without a value
    with pytest.raises(RuntimeError, match="meta"):
        steps.sums()
