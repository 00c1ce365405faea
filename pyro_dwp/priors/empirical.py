"""Correlated, heavy-tailed priors read off source kernels: for each group a Gaussian or a Student t of full scatter.

    p(w) = N(w; m, S)   or   p(w) = t_ν(w; m, S),   maximum likelihood fits, see `pyro_dwp.kernels.densities`

Exact: both densities, the Gaussian's entropy and its KL divergence from a Gaussian guide.

Axis letters: T entries of a flattened kernel.

References:
    Fortuin, Garriga-Alonso, Ober, Wenzel, Rätsch, Turner, van der Wilk, Aitchison 2022, Bayesian Neural Network Priors
    Revisited: weights of convolutions are correlated in space and heavy-tailed.
"""

import math
from collections.abc import Sequence

import torch
from pyro.distributions import MultivariateNormal, TorchDistribution
from torch import Tensor

from pyro_dwp.distributions import Reshaped, SharedStudentT
from pyro_dwp.errors import ConfigError
from pyro_dwp.kernels.densities import Elliptical
from pyro_dwp.priors.density import KernelDensity
from pyro_dwp.priors.learned import LearnedPrior


class EmpiricalDensity(KernelDensity):
    """Gaussian or Student t of one group.

    Args:
        kernel_shape: (K, ..., K).
        student_t: whether it is a Student t.
    """

    family = "empirical"
    mean: Tensor
    scale_tril: Tensor
    degrees: Tensor

    def __init__(self, kernel_shape: Sequence[int], student_t: bool = False) -> None:
        super().__init__(kernel_shape, student_t=student_t)
        self.student_t = student_t
        self.register_buffer("mean", torch.zeros(self.entries))
        self.register_buffer("scale_tril", torch.eye(self.entries))
        if student_t:
            self.register_buffer("degrees", torch.tensor(1e4))

    @classmethod
    def of(cls, kernel_shape: Sequence[int], fit: Elliptical) -> "EmpiricalDensity":
        """Return a fit as the density of kernels of this shape.

        Example:
            >>> from pyro_dwp.kernels.densities import fit_gaussian
            >>> kernels = torch.randn(500, 9, dtype=torch.float64)
            >>> density = EmpiricalDensity.of((3, 3), fit_gaussian(kernels))
            >>> bool((density.distribution().mean.flatten() - kernels.mean(0)).abs().max() < 1e-6)
            True
        """
        density = cls(kernel_shape, student_t=not math.isinf(fit.degrees))
        density.mean.copy_(fit.mean)
        density.scale_tril.copy_(fit.factor)
        if density.student_t:
            density.degrees.fill_(fit.degrees)
        return density

    @property
    def num_parameters(self) -> int:
        """Mean and symmetric scatter matrix, T (T + 3) / 2, and ν."""
        return self.entries * (self.entries + 3) // 2 + self.student_t

    def check(self) -> None:
        """Refuse a scale_tril that is no Cholesky factor, and a ν that is not positive."""
        self.require_cholesky("scale_tril")
        if self.student_t:
            self.require_positive("degrees")  # a fit may find ν ≤ 2: an infinite variance, which nothing here asks for

    def distribution(self, group: str = "") -> TorchDistribution:
        """Return the fitted distribution of one kernel."""
        if self.student_t:
            return Reshaped(SharedStudentT(self.degrees, self.mean, self.scale_tril), self.kernel_shape)
        return Reshaped(MultivariateNormal(self.mean, scale_tril=self.scale_tril), self.kernel_shape)


class Empirical(LearnedPrior):
    """Correlated Gaussian, or Student t, with mean and covariance of source kernels, for each group.

    Args:
        path: a prior saved by `run/train_prior.py --prior empirical`; None takes one that ships with the package.
        student_t: take the Student t of those that ship. A file says itself which of the two it holds.

    Raises:
        CheckpointError: if the file is missing, unreadable, incomplete, or of another family.
        ConfigError: if a Student t is asked for and the file holds a Gaussian, or a site does not fit.
    """

    def __init__(self, path: str | None = None, student_t: bool = False) -> None:
        shipped = "hippocampus-student-t.safetensors" if student_t else "hippocampus-empirical.safetensors"
        super().__init__(path, EmpiricalDensity.family, shipped)
        self.student_t = any(density.settings["student_t"] for density in map(self.stored.density, self.densities))
        if student_t and not self.student_t:
            raise ConfigError(
                f"A Student t was asked for, but {self.stored.path} holds Gaussians. Leave --prior.student_t out, or fit "
                "one with run/train_prior.py --prior empirical --prior.student_t true."
            )
