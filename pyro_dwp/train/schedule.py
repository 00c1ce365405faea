"""How long to train, how fast, and how often to validate: the numbers of a training that do not depend on the model.

The learning rate falls in one of two ways. On a *plateau*, the paper's rule (torch's `ReduceLROnPlateau`): it is multiplied by
`factor` when the monitored loss (of validation or, without validation scans, of training) has not fallen by `threshold` for more
than `patience` validations, and training stops when it reaches `stop_rate`. Or along a *cosine*, from its start to almost 0 in
the last epoch, whatever the losses are: such a training has a fixed length and needs no validation scans.
"""

import math
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from pyro_dwp.checks import checked_dataclass
from pyro_dwp.errors import ConfigError
from pyro_dwp.settings import InsteadOf

RATE_TOLERANCE = 1e-6
Count = Annotated[int, Ge(1), Le(1_000_000)]
RateRule = ReduceLROnPlateau | LambdaLR


@checked_dataclass
class Schedule:
    """Length, batch, learning rate and its decay; the defaults are those of the paper's table 1.

    Args:
        epochs: largest number of epochs, which are passes over the training items; None where `steps` decides.
        steps: largest number of optimisation steps, rounded up to whole epochs; replaces `epochs`, so that trainings on few
            and on many scans have one budget. None keeps `epochs`.
        batch_size: items per optimisation step; the last batch of an epoch may be smaller.
        learning_rate: Adam's initial rate, per step; dimensionless.
        decay: "plateau" or "cosine", see above; the next four settings belong to the plateau.
        factor: what every rate is multiplied by on a plateau; 1 keeps the rate.
        patience: validations without progress that are tolerated before the rate falls.
        threshold: smallest fall of the monitored loss that counts as progress, in units of that loss.
        stop_rate: training stops when the first group's rate has fallen to this; dimensionless; with 0 it trains all epochs.
        validate_every: epochs from one validation to the next; None never validates.
        checkpoint_every: epochs from one checkpoint to the next; the last epoch is always kept.

    Raises:
        ConfigError: if a number is outside its range, learning_rate is not above stop_rate, or epochs and steps are null.

    Example:
        >>> Schedule(epochs=20).batches(5), Schedule(steps=100).length(5)
        (3, 34)
    """

    epochs: Count | None = 500
    steps: Annotated[Count | None, InsteadOf("epochs")] = None
    batch_size: Count = 2
    learning_rate: PositiveFloat = 1e-3
    decay: Literal["plateau", "cosine"] = "plateau"
    factor: Annotated[float, Gt(0), Le(1)] = 0.1
    patience: NonNegativeInt = 10
    threshold: NonNegativeFloat = 1e-4
    stop_rate: NonNegativeFloat = 1e-6
    validate_every: Count | None = 1
    checkpoint_every: Count = 1

    def __post_init__(self) -> None:
        if not self.learning_rate > self.stop_rate:
            raise ConfigError(
                f"Schedule: learning_rate must be above stop_rate, but they are {self.learning_rate} and {self.stop_rate}. "
                "Raise learning_rate or lower stop_rate."
            )
        if self.epochs is None and self.steps is None:
            raise ConfigError("A training lasts for epochs or for steps, but both are null. Give one of them.")

    def batches(self, size: int) -> int:
        """Return the number of optimisation steps in an epoch over `size` items."""
        return math.ceil(size / self.batch_size)

    def validates(self, epoch: int) -> bool:
        """Tell whether a validation follows an epoch, counted from 1."""
        return self.validate_every is not None and epoch % self.validate_every == 0

    def length(self, size: int) -> int:
        """Return the largest number of epochs over `size` items."""
        return math.ceil(self.steps / self.batches(size)) if self.steps else self.epochs or 0

    def rule(self, optimiser: Optimizer, size: int) -> RateRule:
        """Return what lowers the rates of every group, for a training over `size` items."""
        if self.decay == "plateau":
            return self._plateau(optimiser)
        length = self.length(size)
        return LambdaLR(optimiser, lambda epoch: (1 + math.cos(math.pi * min(epoch / length, 1))) / 2)

    def advance(self, rule: RateRule, monitored: float | None) -> None:
        """Lower the rates at the end of an epoch, where that is due.

        Args:
            rule: of this schedule.
            monitored: loss of the epoch's validation; None if there was none.
        """
        if isinstance(rule, LambdaLR):
            rule.step()
        elif monitored is not None:
            rule.step(monitored)

    def _plateau(self, optimiser: Optimizer) -> ReduceLROnPlateau:
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
        """Tell whether a rate has fallen to `stop_rate` on plateaus, up to the rounding of repeated multiplication."""
        return self.decay == "plateau" and rate <= self.stop_rate * (1 + RATE_TOLERANCE)
