"""Gradient estimators of the data term: wrappers of the model, which any guide or none may allow.

    shared sample              one draw of the weights for the whole minibatch
    flipout                    a draw for each example, made from one by random signs
    local reparametrisation    a draw of each layer's output

The KL divergence takes the guide's draw as before and is the same under all three, and so is prediction.
"""

from pyro_dwp.infer.estimators.base import Estimator, SharedSample
from pyro_dwp.infer.estimators.flipout import Flipout
from pyro_dwp.infer.estimators.local_reparametrisation import LocalReparametrisation

__all__ = ["Estimator", "Flipout", "LocalReparametrisation", "SharedSample"]
