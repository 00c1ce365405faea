"""Bounds on the evidence for models with learned priors."""

from pyro_dwp.infer.elbo import AuxiliaryELBO

__all__ = ["AuxiliaryELBO"]
