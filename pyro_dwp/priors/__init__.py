"""Priors over convolution kernels, one family in each file."""

from pyro_dwp.priors.base import PriorFamily
from pyro_dwp.priors.deep_weight import DeepWeight, DeepWeightPrior
from pyro_dwp.priors.gaussian import Gaussian, GaussianPrior

__all__ = ["DeepWeight", "DeepWeightPrior", "Gaussian", "GaussianPrior", "PriorFamily"]
