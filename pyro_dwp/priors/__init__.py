"""Priors over convolution kernels, one family in each file."""

from pyro_dwp.priors.assign import Assigned, Rule
from pyro_dwp.priors.base import PriorFamily
from pyro_dwp.priors.deep_weight import DeepWeight, DeepWeightDensity, DeepWeightPrior
from pyro_dwp.priors.density import KernelDensity
from pyro_dwp.priors.empirical import Empirical, EmpiricalDensity
from pyro_dwp.priors.flow import Flow, FlowDensity
from pyro_dwp.priors.gaussian import Gaussian, GaussianPrior
from pyro_dwp.priors.laplace import Laplace
from pyro_dwp.priors.learned import LearnedPrior
from pyro_dwp.priors.mixture import Mixture, MixtureDensity
from pyro_dwp.priors.pretrained import Pretrained
from pyro_dwp.priors.scale_mixture import ScaleMixture
from pyro_dwp.priors.scaled import ScaledPrior
from pyro_dwp.priors.student_t import StudentT

__all__ = [
    "Assigned",
    "DeepWeight",
    "DeepWeightDensity",
    "DeepWeightPrior",
    "Empirical",
    "EmpiricalDensity",
    "Flow",
    "FlowDensity",
    "Gaussian",
    "GaussianPrior",
    "KernelDensity",
    "Laplace",
    "LearnedPrior",
    "Mixture",
    "MixtureDensity",
    "Pretrained",
    "PriorFamily",
    "Rule",
    "ScaleMixture",
    "ScaledPrior",
    "StudentT",
]
