"""Correlated, heavy-tailed priors read off source kernels: for each group a Gaussian or a Student t with a full scatter matrix.

    p(w) = N(w; m, S)   or   p(w) = t_ν(w; m, S),   maximum likelihood fits, see `pyro_dwp.kernels.densities`

Exact: both densities, the Gaussian's entropy and its KL divergence from a Gaussian guide.

Axis letters: T entries of a flattened kernel.

References:
    Fortuin, Garriga-Alonso, Ober, Wenzel, Rätsch, Turner, van der Wilk, Aitchison 2022, Bayesian Neural Network Priors
    Revisited: weights of convolutions are correlated in space and heavy-tailed.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from time import monotonic

import torch
from pyro.distributions import MultivariateNormal, TorchDistribution
from torch import Tensor

from pyro_dwp.checks import checked, checked_dataclass
from pyro_dwp.distributions import Reshaped, SharedStudentT
from pyro_dwp.errors import ConfigError
from pyro_dwp.kernels.densities import Elliptical, fit_gaussian, fit_student_t, flat_kernels
from pyro_dwp.priors.density import Fit, Fitted, GroupDensity, KernelShape, Trainer
from pyro_dwp.priors.learned import LearnedPrior


class EmpiricalDensity(GroupDensity):
    """Gaussian or Student t of one group.

    Args:
        kernel_shape: (K, ..., K).
        student_t: whether it is a Student t.
    """

    family = "empirical"
    mean: Tensor
    scale_tril: Tensor
    degrees: Tensor

    @checked
    def __init__(self, kernel_shape: KernelShape, student_t: bool = False) -> None:
        super().__init__(kernel_shape, student_t=student_t)
        self.student_t = student_t
        self.register_buffer("mean", torch.zeros(self.entries))
        self.register_buffer("scale_tril", torch.eye(self.entries))
        if student_t:
            self.register_buffer("degrees", torch.tensor(1e4))

    @classmethod
    def of(cls, kernel_shape: Sequence[int], fit: Elliptical) -> "EmpiricalDensity":
        """Return the density that a fit found.

        Args:
            kernel_shape: (K, ..., K).
            fit: of flattened kernels.

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
        """Refuse a `scale_tril` that is not a Cholesky factor, and a ν that is not positive."""
        self.require_cholesky("scale_tril")
        if self.student_t:
            self.require_positive("degrees")  # ν ≤ 2 is allowed: nothing here needs a finite variance

    def distribution(self, group: str = "") -> TorchDistribution:
        """Return the fitted distribution of one kernel."""
        if self.student_t:
            return Reshaped(SharedStudentT(self.degrees, self.mean, self.scale_tril), self.kernel_shape)
        return Reshaped(MultivariateNormal(self.mean, scale_tril=self.scale_tril), self.kernel_shape)


class Empirical(LearnedPrior):
    """Correlated Gaussian, or Student t, with mean and covariance of source kernels, for each group.

    Args:
        path: a prior saved by `run/train_prior.py --family empirical`; None takes one that ships with the package.
        student_t: take the Student t that ships, not the Gaussian. A file of your own says which of the two it holds.

    Raises:
        CheckpointError: if the file is missing, unreadable, incomplete, or of another family.
        ConfigError: if a Student t is asked for and the file holds a Gaussian, or a site does not fit.
    """

    @checked
    def __init__(self, path: Path | None = None, student_t: bool = False) -> None:
        shipped = "hippocampus-student-t.safetensors" if student_t else "hippocampus-empirical.safetensors"
        super().__init__(path, EmpiricalDensity, shipped)
        self.student_t = any(density.settings["student_t"] for density in self.densities.values())
        if student_t and not self.student_t:
            raise ConfigError(
                f"A Student t was asked for, but {self.stored.path} holds Gaussians. Leave out --prior.student_t, or fit "
                "one with run/train_prior.py --family empirical --family.student_t."
            )


@checked_dataclass
class EmpiricalFit(Fit):
    """Gaussian or Student t by maximum likelihood: mean and covariance of the kernels, or EM.

    Args:
        student_t: fit a Student t, with heavy tails, instead of a Gaussian.
    """

    student_t: bool = False

    def fit(self, training: Tensor, validation: Tensor, trainer: Trainer) -> Fitted:
        """Fit to training and validation kernels together, since nothing has to be validated.

        Args:
            training: kernels to fit, (n, K, ...), in units of the weights.
            validation: kernels that are fitted as well, (m, K, ...).
            trainer: not needed.

        Raises:
            DataError: if there are too few kernels for a covariance.
        """
        start, kernels = monotonic(), flat_kernels(torch.cat([training, validation]))
        found = fit_student_t(kernels) if self.student_t else fit_gaussian(kernels)
        return Fitted(EmpiricalDensity.of(training.shape[1:], found), 0, monotonic() - start)
