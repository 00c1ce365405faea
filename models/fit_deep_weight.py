"""How the deep weight prior is fitted: the kernel VAE of `models/kernel_vae.py`, trained by SVI on one group."""

import torch
from torch import Tensor

from models.kernel_vae import KernelVAE, importance_bounds
from pyro_dwp.errors import ConfigError
from pyro_dwp.kernels.bank import root_mean_square
from pyro_dwp.priors import DeepWeightDensity, KernelDensity
from pyro_dwp.train import Circumstances, Fitted, KernelTask, PriorFit, fit


class FitDeepWeight(PriorFit):
    """Variational autoencoder of kernels by SVI: its decoder is the deep weight prior; judged by a bound.

    Args:
        variant: "dense" (matrix products, unbounded scale) or "paper" (appendix B of the paper, tanh heads).
        latent: dimension of the latent z.
        hidden: width of the dense variant's two hidden layers; the paper's has none to choose.
        standardise: divide each group's kernels by the root mean square of their entries. The paper does not.
        samples: draws of z per kernel in the importance bound that judges the fit.

    Raises:
        ConfigError: if samples is below 1.
    """

    family = DeepWeightDensity.family
    exact = False
    steer = "kernels"  # it learns little that is peculiar to a network, and loses by having one less to learn from

    def __init__(
        self, variant: str = "dense", latent: int = 6, hidden: int = 128, standardise: bool = True, samples: int = 1000
    ) -> None:
        if samples < 1:
            raise ConfigError(f"The importance bound needs one draw of z or more, but samples is {samples}. Change it.")
        self.variant, self.latent, self.hidden = variant, latent, hidden
        self.standardise, self.samples = standardise, samples

    def fit(self, training: Tensor, steering: Tensor, where: Circumstances) -> Fitted:
        """Train encoder and decoder; the steering kernels lower the learning rate."""
        torch.manual_seed(where.seed)
        scale = root_mean_square(torch.cat([training, steering])) if self.standardise else 1.0
        density = DeepWeightDensity(training.shape[1:], self.variant, self.latent, self.hidden, scale).to(where.device)
        vae = KernelVAE(density.coders)
        task = KernelTask(vae, training.to(where.device), steering.to(where.device), where.schedule.learning_rate)
        history = fit(task, where.schedule, where.folder, where.seed, where.resume)
        return Fitted(density, len(history.rows), history.seconds)

    def log_density(self, density: KernelDensity, kernels: Tensor) -> Tensor:
        """Return the importance bound on log p(w) in nats, random, below it in the mean: (n,), float64."""
        assert isinstance(density, DeepWeightDensity)
        return importance_bounds(KernelVAE(density.coders), kernels.to(density.origin.device), self.samples).cpu()
