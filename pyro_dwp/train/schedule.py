"""How long to train, how fast, and how often to validate: the numbers of a training that do not depend on the model.

The learning rate follows the paper's rule (torch's `ReduceLROnPlateau`): it is multiplied by `factor` when the monitored loss
has not fallen by `threshold` for more than `patience` validations, and training stops when it reaches `stop_rate`.
"""

import math
from typing import Annotated

from annotated_types import Ge, Gt, Le
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from pyro_dwp.checks import checked_dataclass
from pyro_dwp.errors import ConfigError

RATE_TOLERANCE = 1e-6
Count = Annotated[int, Ge(1), Le(1_000_000)]


@checked_dataclass
class Schedule:
    """Length, batch, learning rate and its decay; the defaults are those of the paper's table 1.

    Args:
        epochs: largest number of epochs, which are passes over the training items.
        batch_size: items per optimisation step; the last batch of an epoch may be smaller.
        learning_rate: Adam's initial rate, per step; dimensionless.
        factor: what every rate is multiplied by on a plateau; 1 keeps the rate.
        patience: validations without progress that are tolerated before the rate falls.
        threshold: smallest fall of the monitored loss that counts as progress, in units of that loss.
        stop_rate: training stops when the first group's rate has fallen to this; dimensionless; with 0 it trains all epochs.
        validate_every: epochs from one validation to the next.
        checkpoint_every: epochs from one checkpoint to the next; the last epoch is always kept.

    Raises:
        ConfigError: if a number is outside its range, or learning_rate is not above stop_rate.

    Example:
        >>> Schedule(epochs=20).batches(5)
        3
    """

    epochs: Count = 500
    batch_size: Count = 2
    learning_rate: PositiveFloat = 1e-3
    factor: Annotated[float, Gt(0), Le(1)] = 0.1
    patience: NonNegativeInt = 10
    threshold: NonNegativeFloat = 1e-4
    stop_rate: NonNegativeFloat = 1e-6
    validate_every: Count = 1
    checkpoint_every: Count = 1

    def __post_init__(self) -> None:
        if not self.learning_rate > self.stop_rate:
            raise ConfigError(
                f"Schedule: learning_rate must be above stop_rate, but they are {self.learning_rate} and {self.stop_rate}. "
                "Raise learning_rate or lower stop_rate."
            )

    def batches(self, size: int) -> int:
        """Return the number of optimisation steps in an epoch over `size` items."""
        return math.ceil(size / self.batch_size)

    def plateau(self, optimiser: Optimizer) -> ReduceLROnPlateau:
        """Return the rule that lowers every group's rate by the same factor when the monitored loss stops falling."""
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
