"""A mixture of correlated Gaussians fitted to source kernels, for each group.

    p(w) = Σ_k π_k N(w; m_k, S_k),   fitted by EM, see `pyro_dwp.kernels.mixtures`

With equal means and covariances that differ in size it is a scale mixture, whose tails are heavy; with others it tells kinds
of kernels apart. Exact: its density and its moments.

Axis letters: K components, T entries of a flattened kernel.
"""

from collections.abc import Sequence

import torch
from pyro.distributions import Categorical, MixtureSameFamily, MultivariateNormal, TorchDistribution
from torch import Tensor

from pyro_dwp.distributions import Reshaped
from pyro_dwp.kernels.mixtures import GaussianMixture
from pyro_dwp.priors.density import KernelDensity
from pyro_dwp.priors.learned import LearnedPrior

TOLERANCE = 1e-4  # of the sum of weights, which rounding to float32 moves by less than 1e-6


class MixtureDensity(KernelDensity):
    """Mixture of Gaussians of one group.

    Args:
        kernel_shape: (K, ..., K).
        components: number of Gaussians.
    """

    family = "mixture"
    log_weights: Tensor
    means: Tensor
    scale_tril: Tensor

    def __init__(self, kernel_shape: Sequence[int], components: int = 8) -> None:
        super().__init__(kernel_shape, components=components)
        self.register_buffer("log_weights", torch.zeros(components).log_softmax(0))
        self.register_buffer("means", torch.zeros(components, self.entries))
        self.register_buffer("scale_tril", torch.eye(self.entries).repeat(components, 1, 1))

    @classmethod
    def of(cls, kernel_shape: Sequence[int], mixture: GaussianMixture) -> "MixtureDensity":
        """Return a fit as the density of kernels of this shape."""
        density = cls(kernel_shape, len(mixture.log_weights))
        density.log_weights.copy_(mixture.log_weights)
        density.means.copy_(mixture.means)
        density.scale_tril.copy_(mixture.factors)
        return density

    @property
    def num_parameters(self) -> int:
        """K means and symmetric covariances, T (T + 3) / 2 each, and K − 1 weights."""
        components = len(self.log_weights)
        return components * self.entries * (self.entries + 3) // 2 + components - 1

    def check(self) -> None:
        """Refuse weights that do not sum to 1, and a scale_tril that holds anything but Cholesky factors."""
        self.require_cholesky("scale_tril")
        total = self.log_weights.exp().sum().item()
        if abs(total - 1) > TOLERANCE:
            raise ValueError(f"log_weights should be those of weights that sum to 1, but theirs sum to {total:.4g}.")

    def distribution(self, group: str = "") -> TorchDistribution:
        """Return the fitted distribution of one kernel."""
        components = MultivariateNormal(self.means, scale_tril=self.scale_tril)
        return Reshaped(MixtureSameFamily(Categorical(logits=self.log_weights), components), self.kernel_shape)


class Mixture(LearnedPrior):
    """Mixture of correlated Gaussians fitted to source kernels, for each group.

    Args:
        path: a prior saved by `run/train_prior.py --prior mixture`; None takes the one that ships with the package.

    Raises:
        CheckpointError: if the file is missing, unreadable, incomplete, or of another family.
        ConfigError: if a site's group or kernel shape is not in it.
    """

    def __init__(self, path: str | None = None) -> None:
        super().__init__(path, MixtureDensity.family, "hippocampus-mixture.safetensors")
