"""Bounds on the evidence for models with learned priors, and how to look at what inference found."""

from pyro_dwp.infer.diagnostics import weight_scales
from pyro_dwp.infer.elbo import AuxiliaryELBO
from pyro_dwp.infer.estimators import Estimator, Flipout, SharedSample
from pyro_dwp.infer.guide_check import check_guide

__all__ = [
    "AuxiliaryELBO",
    "Estimator",
    "Flipout",
    "SharedSample",
    "check_guide",
    "weight_scales",
]
