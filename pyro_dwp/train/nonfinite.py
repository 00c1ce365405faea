"""A training that diverges: it ends in a loss that is not finite, not in a ValueError, and in a sentence that says what to do."""

import math
import warnings
from collections.abc import Callable, Mapping

import pyro

from pyro_dwp.train.progress import describe

CURES = (
    "The checkpoint of an earlier epoch is intact. Usual cures: a lower schedule.learning_rate, clipped gradients, and a look "
    "at the images for values that are not finite."
)
UNTRAINED = "Nothing has been trained yet, so the learning rate is not to blame."
AT_FIRST = {
    "data": "for data, values of the scans that are not finite, or weights so large that the network's output is not",
    "kl": "for kl, a prior whose support is not all real numbers (such as HalfNormal or Uniform) under a guide over all of them, "
    "or a mean or scale of prior or guide that is NaN",
}
UNKNOWN = "values of the training items, or weights to start from, that are not finite"


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


def diverged(values: Mapping[str, float], epoch: int, step: int) -> str:
    """Say which parts of a loss are not finite, and what to do; at the first step the cause cannot be what was learned.

    Args:
        values: "loss" and its parts.
        epoch: from 1.
        step: of the epoch, from 1.
    """
    parts = [name for name, value in values.items() if name != "loss" and not math.isfinite(value)]
    found = f"In epoch {epoch}, step {step}, the loss is not finite: {describe(values)}."
    if parts:
        found += f" These parts are not finite: {', '.join(parts)}."
    if (epoch, step) != (1, 1):
        return f"{found} {CURES}"
    causes = [cause for part, cause in AT_FIRST.items() if part in parts] or [UNKNOWN]
    return f"{found} {UNTRAINED} Likely causes: {'; '.join(causes)}."
