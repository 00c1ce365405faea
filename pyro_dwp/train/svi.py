"""Pyro's SVI for plain parameters of modules."""

import warnings
from typing import Any

import pyro
from pyro import poutine
from pyro.infer.util import torch_item, zero_grads


class SVI(pyro.infer.SVI):
    """`pyro.infer.SVI` whose step hands the captured parameters themselves to the optimiser.

    Pyro 1.9.2 asks each captured parameter for `.unconstrained()`, which a plain `nn.Parameter` lacks under module-local
    parameters; only a constrained `PyroParam` has it.
    """

    def step(self, *args: Any, **kwargs: Any) -> float:
        """Take a gradient step.

        Args:
            args: of model and guide.
            kwargs: of model and guide.

        Returns:
            Estimate of the loss.
        """
        with poutine.trace(param_only=True) as captured, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Encountered (NaN|.inf)")  # of the loss, which `fit` reports
            loss = self.loss_and_grads(self.model, self.guide, *args, **kwargs)
        values = [site["value"] for site in captured.trace.nodes.values()]
        parameters = {value.unconstrained() if hasattr(value, "unconstrained") else value for value in values}
        self.optim(parameters)
        zero_grads(parameters)
        return float(torch_item(loss))
