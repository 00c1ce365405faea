"""The variational autoencoder of kernels: the model that becomes a deep weight prior.

    model:  z ~ N(0, I_L),   w | z ~ N(μ_φ(z), σ_φ(z)²)
    guide:  z | w ~ r_ψ(z | w)

It is trained by SVI on kernels of source networks: `model` and `guide` are the Pyro program, for any of Pyro's losses, and `loss`
is what `TraceMeanField_ELBO` makes of them, written out, which takes half the time. Afterwards the frozen decoder (φ) is the
prior, and the encoder (ψ) is the start of the auxiliary encoder in the target's inference.

Axis letters: B kernels of a batch, T entries of a flattened kernel, L latent.
"""

from typing import Protocol

import pyro
import torch
from pyro.distributions import Normal
from pyro.nn import PyroModule, pyro_method
from torch import Tensor, nn

from pyro_dwp.distributions import gaussian_log_prob, kl_to_standard_normal


class Coders(Protocol):
    """An encoder and a decoder of flattened kernels in units of the weights, such as a `DeepWeightDensity`."""

    encoder: nn.Module
    decoder: nn.Module
    latent_dim: int


class KernelVAE(PyroModule):
    """Model and guide of one group of kernels.

    Args:
        coders: a `DeepWeightDensity`, or anything else that has an encoder, a decoder and a `latent_dim`; trained in place.

    References:
        Atanov et al. 2018, The Deep Weight Prior. Kuzina, Egorov, Burnaev 2019, section 2.2.

    Example:
        >>> from pyro.infer import Trace_ELBO
        >>> from pyro_dwp.priors import DeepWeightDensity
        >>> vae = KernelVAE(DeepWeightDensity((3, 3), hidden=8))
        >>> nats = -Trace_ELBO().loss(vae.model, vae.guide, torch.randn(5, 9), 5)
    """

    def __init__(self, coders: Coders) -> None:
        super().__init__()
        self.encoder, self.decoder, self.latent_dim = coders.encoder, coders.decoder, coders.latent_dim

    @pyro_method
    def model(self, kernels: Tensor, total: int) -> None:
        """Generate kernels.

        Args:
            kernels: a batch of observed kernels, (B, T).
            total: number of kernels in the data set, N; the batch counts N / B times.
        """
        with pyro.plate("kernels", total, subsample=torch.arange(len(kernels), device=kernels.device)):
            origin = kernels.new_zeros(len(kernels), self.latent_dim)
            z = pyro.sample("z", Normal(origin, 1.0).to_event(1))
            mean, log_scale = self.decoder(z)
            pyro.sample("w", Normal(mean, log_scale.exp()).to_event(1), obs=kernels)

    @pyro_method
    def guide(self, kernels: Tensor, total: int) -> None:
        """Infer the latents of kernels.

        Args:
            kernels: a batch of observed kernels, (B, T).
            total: number of kernels in the data set, N.
        """
        with pyro.plate("kernels", total, subsample=torch.arange(len(kernels), device=kernels.device)):
            mean, log_scale = self.encoder(kernels)
            pyro.sample("z", Normal(mean, log_scale.exp()).to_event(1))

    def loss(self, kernels: Tensor) -> Tensor:
        """Return KL(r(z|w) ‖ p(z)) - log p(w|z), minus the ELBO of each kernel, with one draw of z and the exact KL.

        Args:
            kernels: w, (B, T).

        Returns:
            (B,), in nats.
        """
        mean, log_scale = self.encoder(kernels)
        z = mean + log_scale.exp() * torch.randn_like(mean)
        return kl_to_standard_normal(mean, log_scale) - gaussian_log_prob(kernels, *self.decoder(z))
