"""The deep weight prior: a generative model of convolution kernels, learned from trained networks.

    z ~ N(0, I_L),   w | z ~ N(μ_φ(z), σ_φ(z)²),   p(w) = ∫ p_φ(w|z) p(z) dz

The decoder (μ_φ, σ_φ) is that of a variational autoencoder trained on source kernels, then frozen. The prior can be
sampled; its density is an integral without closed form. It is an `ImplicitPrior`: `AuxiliaryELBO` bounds its KL divergence.

Axis letters: L latent, K edge of a kernel, T entries of a flattened kernel.

References:
    Atanov, Ashukha, Struminsky, Vetrov, Welling 2018, The Deep Weight Prior, arXiv:1810.06943.
    Kuzina, Egorov, Burnaev 2019, Front. Neurosci. 13:844.
"""

import copy
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Le
from pydantic import PositiveFloat
from pyro.distributions import Normal, TorchDistribution
from torch import Tensor, nn

from pyro_dwp.checks import checked, checked_dataclass
from pyro_dwp.distributions import ImplicitPrior, gaussian_log_prob
from pyro_dwp.kernels.bank import root_mean_square
from pyro_dwp.nn.kernel_coders import Coder, Variant, build_coders
from pyro_dwp.priors.density import Fit, Fitted, GroupDensity, KernelShape, Trainer
from pyro_dwp.priors.learned import LearnedPrior

Latent = Annotated[int, Ge(1), Le(1024)]
Hidden = Annotated[int, Ge(1), Le(4096)]


class DeepWeightPrior(ImplicitPrior):
    """Distribution of one kernel under a decoder; batch = kernels, event = (K, ..., K).

    Args:
        decoder: z, (..., L) → mean and log standard deviation of the kernel, each (..., T).
        latent_dim: L.
        kernel_shape: (K, ..., K).
        group: name of the auxiliary encoder.
        like: a tensor with the device and dtype that samples get.

    Example:
        >>> decoder = lambda z: (z.sum(-1, keepdim=True).expand(*z.shape[:-1], 9), torch.zeros(*z.shape[:-1], 9))
        >>> prior = DeepWeightPrior(decoder, 2, torch.Size([3, 3]), "1", torch.zeros(()))
        >>> prior.expand([8, 4]).to_event(2).sample().shape
        torch.Size([8, 4, 3, 3])
    """

    def __init__(self, decoder: Coder, latent_dim: int, kernel_shape: torch.Size, group: str, like: Tensor) -> None:
        super().__init__(group, latent_dim, kernel_shape, like)
        self.decoder = decoder

    def conditional(self, z: Tensor) -> TorchDistribution:
        """Return p(w|z) of flattened kernels, independent Gaussians."""
        mean, log_scale = self.decoder(z)
        return Normal(mean, log_scale.exp()).to_event(1)

    def conditional_log_prob(self, kernels: Tensor, z: Tensor) -> Tensor:
        """Return log p(w|z) in nats as the base class does, without the cost of a distribution object."""
        return gaussian_log_prob(kernels, *self.decoder(z))


class DeepWeightDensity(GroupDensity):
    """Encoder and decoder of one group; its distribution is the decoder's.

    Args:
        kernel_shape: (K, ..., K).
        variant: "shallow", "dense" or "paper", see `build_coders`.
        latent: L.
        hidden: width of the hidden layers; without effect on "paper".
        kernel_scale: standardises the kernels; stored with encoder and decoder.
    """

    family = "deep_weight"
    like: Tensor

    @checked
    def __init__(
        self,
        kernel_shape: KernelShape,
        variant: Variant = "shallow",
        latent: Latent = 6,
        hidden: Hidden = 128,
        kernel_scale: PositiveFloat = 1.0,
    ) -> None:
        super().__init__(kernel_shape, variant=variant, latent=latent, hidden=hidden)
        coders = build_coders(variant, self.kernel_shape, latent, kernel_scale, hidden)
        self.encoder, self.decoder, self.latent_dim = coders.encoder, coders.decoder, latent
        self.register_buffer("like", torch.zeros(()), persistent=False)

    @property
    def num_parameters(self) -> int:
        """Number of the decoder's parameters; the encoder is not part of the density."""
        return sum(parameter.numel() for parameter in self.decoder.parameters())

    def check(self) -> None:
        """Refuse a scale of the kernels that is not positive."""
        self.require_positive("encoder.kernel_scale")
        self.require_positive("decoder.kernel_scale")

    def distribution(self, group: str = "") -> DeepWeightPrior:
        """Return p(w) = ∫ p(w|z) p(z) dz of one kernel."""
        prior = DeepWeightPrior(self.decoder, self.latent_dim, self.kernel_shape, group, self.like)
        prior.density = self
        return prior


class DeepWeight(LearnedPrior):
    """Deep weight prior: the decoder of a variational autoencoder of source kernels, for each group.

    Args:
        path: a prior saved by `run/train_prior.py`; None takes the one that ships with the package, fitted to kernels
            of hippocampus networks.

    Raises:
        CheckpointError: if the file is missing, unreadable, incomplete, or of another family.
        ConfigError: if a site's group or kernel shape is not in it.
    """

    @checked
    def __init__(self, path: Path | None = None) -> None:
        super().__init__(path, DeepWeightDensity, "hippocampus-deep-weight.safetensors")

    def encoders(self) -> dict[str, nn.Module]:
        """Return trainable copies of the autoencoders' encoders, from which r(z|w) starts."""
        encoders = {group: copy.deepcopy(density.get_submodule("encoder")) for group, density in self.densities.items()}
        return {group: encoder.requires_grad_(True) for group, encoder in encoders.items()}


@checked_dataclass
class DeepWeightFit(Fit):
    """Variational autoencoder of kernels by SVI: its decoder is the deep weight prior.

    Args:
        variant: "shallow" (one hidden layer, which knows a kernel's size), "dense" (two) or "paper" (its appendix B, tanh heads).
        latent: dimension of the latent z.
        hidden: width of the hidden layers; without effect on the paper's.
        standardise: divide each group's kernels by the root mean square of their entries. The paper does not.
    """

    # It overfits little, and having one network fewer to fit costs more.
    validates_on: ClassVar[Literal["networks", "kernels"]] = "kernels"

    variant: Variant = "shallow"
    latent: Latent = 6
    hidden: Hidden = 128
    standardise: bool = True

    def fit(self, training: Tensor, validation: Tensor, trainer: Trainer) -> Fitted:
        """Train encoder and decoder; the loss on the validation kernels controls the learning rate.

        Args:
            training: kernels to fit, (n, K, ...), in units of the weights.
            validation: kernels whose loss controls the learning rate, (m, K, ...).
            trainer: trains the autoencoder.
        """
        torch.manual_seed(trainer.seed)
        scale = root_mean_square(torch.cat([training, validation])) if self.standardise else 1.0
        density = DeepWeightDensity(training.shape[1:], self.variant, self.latent, self.hidden, scale)
        return Fitted(density, *trainer.autoencode(density, training, validation))
