"""A training that diverges while distributions check their arguments ends in a loss that is not finite, not in a ValueError."""

import math
import warnings
from collections.abc import Callable

import pyro


def loss_or_nan(step: Callable[[], float], evaluate: Callable[[], float]) -> float:
    """Return the loss of a step, or one that is not finite if a distribution refused its arguments because training diverged.

    With validation on, a distribution raises ValueError for a mean or scale that is NaN. The loss is then evaluated once more
    without validation: if it is not finite, training has diverged, and `fit` reports that; if it is finite, the error has
    another cause and is raised.

    Args:
        step: takes a step and returns its loss.
        evaluate: returns the same loss without a step.

    Raises:
        ValueError: that of the step, if the loss is finite.

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
