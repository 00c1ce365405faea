"""Priors over convolution kernels, one family in each file."""

from pyro_dwp.priors.around import AroundSource
from pyro_dwp.priors.assign import Assigned, Rule
from pyro_dwp.priors.base import Prior
from pyro_dwp.priors.deep_weight import DeepWeight, DeepWeightDensity, DeepWeightFit, DeepWeightPrior
from pyro_dwp.priors.density import Fit, Fitted, GroupDensity, Trainer
from pyro_dwp.priors.empirical import Empirical, EmpiricalDensity, EmpiricalFit
from pyro_dwp.priors.flow import Flow, FlowDensity, FlowFit
from pyro_dwp.priors.gaussian import Gaussian, GaussianPrior
from pyro_dwp.priors.laplace import Laplace
from pyro_dwp.priors.learned import LearnedPrior
from pyro_dwp.priors.mixture import Mixture, MixtureDensity, MixtureFit
from pyro_dwp.priors.pretrained import Pretrained
from pyro_dwp.priors.scale_mixture import ScaleMixture
from pyro_dwp.priors.scaled import ScaledPrior
from pyro_dwp.priors.source_posterior import SourcePosterior
from pyro_dwp.priors.student_t import StudentT

__all__ = [
    "AroundSource",
    "Assigned",
    "DeepWeight",
    "DeepWeightDensity",
    "DeepWeightFit",
    "DeepWeightPrior",
    "Empirical",
    "EmpiricalDensity",
    "EmpiricalFit",
    "Fit",
    "Fitted",
    "Flow",
    "FlowDensity",
    "FlowFit",
    "Gaussian",
    "GaussianPrior",
    "GroupDensity",
    "Laplace",
    "LearnedPrior",
    "Mixture",
    "MixtureDensity",
    "MixtureFit",
    "Pretrained",
    "Prior",
    "Rule",
    "ScaleMixture",
    "ScaledPrior",
    "SourcePosterior",
    "StudentT",
    "Trainer",
]
