"""Distributions that torch and Pyro lack, one in each file: what several priors and guides are made of."""

from pyro_dwp.distributions.channel_dropout import ChannelDropout
from pyro_dwp.distributions.gaussian import gaussian_log_prob, kl_to_standard_normal
from pyro_dwp.distributions.gaussian_mixture import GaussianMixture
from pyro_dwp.distributions.implicit import ImplicitPrior
from pyro_dwp.distributions.matrix_normal import MatrixNormal
from pyro_dwp.distributions.reshaped import Reshaped
from pyro_dwp.distributions.student_t import SharedStudentT
from pyro_dwp.distributions.uniform_mixture import UniformMixture

__all__ = [
    "ChannelDropout",
    "GaussianMixture",
    "ImplicitPrior",
    "MatrixNormal",
    "Reshaped",
    "SharedStudentT",
    "UniformMixture",
    "gaussian_log_prob",
    "kl_to_standard_normal",
]
