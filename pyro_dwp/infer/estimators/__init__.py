"""Gradient estimators of the data term: wrappers of the model, some of which need a guide of a certain kind.

    shared sample     one draw of the weights for the whole minibatch
    flipout           a draw for each example, made from one by random signs

The KL divergence and the prediction are the same under both: they take the guide's draw as it is.
"""

from pyro_dwp.infer.estimators.base import Estimator, SharedSample
from pyro_dwp.infer.estimators.flipout import Flipout

__all__ = ["Estimator", "Flipout", "SharedSample"]
