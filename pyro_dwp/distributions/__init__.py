"""Distributions that torch and Pyro lack, one in each file: what several priors and guides are made of."""

from pyro_dwp.distributions.matrix_normal import MatrixNormal
from pyro_dwp.distributions.mixture import Mixture
from pyro_dwp.distributions.reshaped import Reshaped
from pyro_dwp.distributions.student_t import SharedStudentT

__all__ = ["MatrixNormal", "Mixture", "Reshaped", "SharedStudentT"]
