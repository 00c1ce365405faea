"""The variational autoencoder of kernels: the model that becomes a deep weight prior.

    model:  z ~ N(0, I_L),   w | z ~ N(μ_φ(z), σ_φ(z)²)
    guide:  z | w ~ r_ψ(z | w)

Trained by SVI on kernels of source networks; afterwards the decoder (φ) is frozen and is the prior, and the encoder
(ψ) is where the auxiliary posterior of the target's inference starts.

Axis letters: B kernels of a batch, T = K^n entries of a kernel, L latent, M importance samples.
"""

import pyro
import torch
from pyro.distributions import Normal
from pyro.nn import PyroModule, pyro_method
from torch import Tensor

from pyro_dwp.infer.bounds import importance_bound
from pyro_dwp.nn.kernel_coders import KernelCoders

LATENTS_AT_ONCE = 16384


class KernelVAE(PyroModule):
    """Model and guide of one group of kernels.

    Args:
        coders: encoder and decoder, from `build_coders`; they take and give kernels in the units of the weights.

    References:
        Atanov et al. 2018, The Deep Weight Prior. Kuzina, Egorov, Burnaev 2019, section 2.2.

    Example:
        >>> from pyro_dwp.nn.kernel_coders import build_coders
        >>> vae = KernelVAE(build_coders("dense", hidden=8))
        >>> importance_bounds(vae, torch.randn(5, 27), samples=10).shape
        torch.Size([5])
    """

    def __init__(self, coders: KernelCoders) -> None:
        super().__init__()
        self.encoder, self.decoder, self.latent_dim = coders.encoder, coders.decoder, coders.latent_dim

    @pyro_method
    def model(self, kernels: Tensor, total: int) -> None:
        """Generate kernels.

        Args:
            kernels: a batch of the observed ones, (B, T).
            total: number of kernels in the data set, N; the batch counts N / B times.
        """
        with pyro.plate("kernels", total, subsample=torch.arange(len(kernels), device=kernels.device)):
            origin = kernels.new_zeros(len(kernels), self.latent_dim)
            z = pyro.sample("z", Normal(origin, 1.0).to_event(1))
            mean, log_scale = self.decoder(z)
            pyro.sample("w", Normal(mean, log_scale.exp()).to_event(1), obs=kernels)

    @pyro_method
    def guide(self, kernels: Tensor, total: int) -> None:
        """Infer the latents of kernels; arguments as in `model`."""
        with pyro.plate("kernels", total, subsample=torch.arange(len(kernels), device=kernels.device)):
            mean, log_scale = self.encoder(kernels)
            pyro.sample("z", Normal(mean, log_scale.exp()).to_event(1))


@torch.no_grad()
def sample_kernels(coders: KernelCoders, count: int) -> Tensor:
    """Return `count` kernels drawn from the decoder, z ~ N(0, I), w ~ p(w|z): (count, T), on the CPU."""
    device = next(coders.parameters()).device
    mean, log_scale = coders.decoder(torch.randn(count, coders.latent_dim, device=device))
    return Normal(mean, log_scale.exp()).sample().cpu()


@torch.no_grad()
def importance_bounds(vae: KernelVAE, kernels: Tensor, samples: int = 1000) -> Tensor:
    """Return the importance-weighted lower bound on log p(w) of each kernel, in nats.

        log (1/M) Σ_m p(w | z_m) p(z_m) / r(z_m | w),   z_m ~ r(z | w)

    Random; below log p(w) in expectation, and the closer the larger M. With M = 1 it is the ELBO. Draws from torch's
    global generator.

    Args:
        vae: the autoencoder.
        kernels: (n, T) or (n, K, ...), in the units of the weights.
        samples: M.

    Returns:
        (n,), float64.

    References:
        Burda, Grosse, Salakhutdinov 2016, Importance Weighted Autoencoders.
    """
    chunks = kernels.flatten(1).split(max(1, LATENTS_AT_ONCE // samples))
    bounds = [
        importance_bound(chunk, vae.encoder, vae.decoder, samples, doubly_reparametrised=False) for chunk in chunks
    ]
    return -torch.cat([bound.total for bound in bounds]).double()
