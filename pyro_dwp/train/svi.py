"""Pyro's SVI for plain parameters of modules, with steps that a GPU does not have to wait for."""

from typing import Any

import pyro
from pyro import poutine
from pyro.infer.util import zero_grads
from torch import Tensor


class SVI(pyro.infer.SVI):
    """`pyro.infer.SVI` whose step hands the captured parameters themselves to the optimiser, and the loss back as it is.

    Pyro 1.9.2 asks each captured parameter for `.unconstrained()`, which a plain `nn.Parameter` lacks under module-local
    parameters; only a constrained `PyroParam` has it. It also turns the loss into a number, which waits for the device.
    """

    def step(self, *args: Any, **kwargs: Any) -> float | Tensor:
        """Take a gradient step.

        Args:
            args: of model and guide.
            kwargs: of model and guide.

        Returns:
            Estimate of the loss: a tensor, (), from `AuxiliaryELBO`, a number from Pyro's own bounds.
        """
        with poutine.trace(param_only=True) as captured:
            loss: float | Tensor = self.loss_and_grads(self.model, self.guide, *args, **kwargs)
        values = [site["value"] for site in captured.trace.nodes.values()]
        parameters = {value.unconstrained() if hasattr(value, "unconstrained") else value for value in values}
        self.optim(parameters)
        zero_grads(parameters)
        return loss
