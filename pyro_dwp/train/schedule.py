"""How long to train, how fast, and how often to look: the numbers of a training that do not depend on the model.

The rate follows the paper's rule (torch's `ReduceLROnPlateau`): it falls by `factor` when the monitored loss has not
fallen by `threshold` for more than `patience` validations, and training stops when it reaches `stop_rate`.
"""

import math
from dataclasses import dataclass

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from pyro_dwp.errors import ConfigError

RATE_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Schedule:
    """Length, batch, learning rate and its decay; the defaults are the paper's table 1.

    Args:
        epochs: longest training, in passes over the training items.
        batch_size: items per optimisation step; the last batch of an epoch may be smaller.
        learning_rate: Adam's rate at the start, per step; dimensionless.
        factor: what every rate is multiplied by on a plateau, between 0 and 1; 1 keeps the rate.
        patience: validations without progress that are tolerated before the rate falls.
        threshold: smallest fall of the monitored loss that counts as progress, in units of that loss.
        stop_rate: training stops when the first group's rate has fallen to this; dimensionless, 0 never stops.
        validate_every: epochs from one validation to the next.
        checkpoint_every: epochs from one checkpoint to the next; the last epoch is always kept.

    Raises:
        ConfigError: if a number is outside its range.

    Example:
        >>> Schedule(epochs=20).batches(5)
        3
    """

    epochs: int = 500
    batch_size: int = 2
    learning_rate: float = 1e-3
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    stop_rate: float = 1e-6
    validate_every: int = 1
    checkpoint_every: int = 1

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "validate_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"schedule.{name} must be at least 1, but is {getattr(self, name)}.")
        if self.patience < 0 or self.threshold < 0 or self.stop_rate < 0:
            raise ConfigError(
                "schedule.patience, .threshold and .stop_rate must not be negative, but are "
                f"{self.patience}, {self.threshold} and {self.stop_rate}."
            )
        if not 0 < self.factor <= 1:
            raise ConfigError(f"schedule.factor multiplies the rate and lies in (0, 1], but is {self.factor}.")
        if not self.learning_rate > self.stop_rate:
            raise ConfigError(
                f"schedule.learning_rate must be above stop_rate, but they are {self.learning_rate} and "
                f"{self.stop_rate}. Raise learning_rate or lower stop_rate."
            )

    def batches(self, size: int) -> int:
        """Return the number of optimisation steps in an epoch over `size` items."""
        return math.ceil(size / self.batch_size)

    def plateau(self, optimiser: Optimizer) -> ReduceLROnPlateau:
        """Return the rule that lowers every group's rate by the same factor when the monitored loss stands still."""
        if self.factor == 1:
            return ReduceLROnPlateau(optimiser, factor=0.1, patience=2**62)
        return ReduceLROnPlateau(
            optimiser,
            factor=self.factor,
            patience=self.patience,
            threshold=self.threshold,
            threshold_mode="abs",
            eps=0.0,
        )

    def finished(self, rate: float) -> bool:
        """Tell whether a rate has fallen to `stop_rate`, up to the rounding of repeated multiplication."""
        return rate <= self.stop_rate * (1 + RATE_TOLERANCE)
