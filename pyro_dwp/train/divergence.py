"""What becomes of a training that diverges while Pyro checks arguments: a loss that is no number, not a ValueError."""

import math
import warnings
from collections.abc import Callable

import pyro


def loss_or_nan(step: Callable[[], float], evaluate: Callable[[], float]) -> float:
    """Return the loss of a step; where a distribution refused its arguments because training has diverged, a loss not finite.

    With validation on, a mean or a scale that is no number makes a distribution raise ValueError. The loss is then evaluated
    once more without validation: if it is not finite, training has diverged, and `fit` says so when it receives such a
    loss; if it is finite, the error has another cause and is raised.

    Args:
        step: takes a step and returns its loss.
        evaluate: returns the same loss without a step.

    Example:
        >>> import torch
        >>> from torch.distributions import Normal
        >>> loss = lambda: float(Normal(torch.tensor(math.nan), 1.0).log_prob(torch.tensor(0.0)))
        >>> loss_or_nan(loss, loss)
        nan
    """
    try:
        return step()
    except ValueError:
        with pyro.validation_enabled(False), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pyro's own warning of a loss that is NaN
            loss = evaluate()
        if math.isfinite(loss):
            raise
        return loss
