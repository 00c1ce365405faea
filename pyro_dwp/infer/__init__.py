"""Bounds on the evidence for models with learned priors, and how to look at what inference found."""

from pyro_dwp.infer.diagnostics import describe_scales, weight_scales
from pyro_dwp.infer.elbo import AuxiliaryELBO

__all__ = ["AuxiliaryELBO", "describe_scales", "weight_scales"]
