"""The losses of an epoch's steps: summed, and refused where one is not finite, without making a GPU wait."""

import math
from collections.abc import Mapping

from torch import Tensor

from pyro_dwp.errors import TrainingError
from pyro_dwp.train.nonfinite import diverged


class StepValues:
    """What the steps of an epoch return.

    A number, or a tensor on the CPU, is checked at once; what another device still computes is read when the epoch is over.

    Args:
        epoch: from 1.

    Example:
        >>> import torch
        >>> steps = StepValues(1)
        >>> steps.add({"loss": torch.tensor(2.0)}, weight=3)
        >>> steps.add({"loss": 1.0}, weight=2)
        >>> steps.sums()
        {'loss': 8.0}
    """

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.steps: list[tuple[Mapping[str, float | Tensor], float]] = []

    def add(self, values: Mapping[str, float | Tensor], weight: float) -> None:
        """Add a step.

        Args:
            values: "loss" and its parts; a tensor is of shape ().
            weight: of the step in the sums.

        Raises:
            TrainingError: if the loss is here and not finite.
        """
        if not isinstance(values["loss"], Tensor) or values["loss"].device.type == "cpu":
            values = self._numbers(len(self.steps) + 1, values)
        self.steps.append((values, weight))

    def sums(self) -> dict[str, float]:
        """Return the weighted sums over the steps, by name.

        Raises:
            TrainingError: if the loss of a step is not finite.
        """
        sums: dict[str, float] = {}
        for number, (values, weight) in enumerate(self.steps, start=1):
            for name, value in self._numbers(number, values).items():
                sums[name] = sums.get(name, 0.0) + value * weight
        return sums

    def _numbers(self, step: int, values: Mapping[str, float | Tensor]) -> dict[str, float]:
        found = {name: float(value) for name, value in values.items()}
        if not math.isfinite(found["loss"]):
            raise TrainingError(diverged(found, self.epoch, step))
        return found
