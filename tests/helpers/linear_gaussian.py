"""A decoder for which everything is known in closed form: w | z ~ N(A z + b, s² I), so w ~ N(b, A Aᵀ + s² I)."""

import torch
from pyro.distributions import Normal, TorchDistribution
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from pyro_dwp.distributions import ImplicitPrior, gaussian_log_prob
from pyro_dwp.priors import GroupDensity, Prior
from pyro_dwp.sites import WeightSite


class LinearDecoder(nn.Module):
    def __init__(self, weights: int, latent: int, scale: float = 0.4) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.matrix = nn.Parameter(0.5 * torch.randn(weights, latent, generator=generator, dtype=torch.float64))
        self.shift = nn.Parameter(0.2 * torch.randn(weights, generator=generator, dtype=torch.float64))
        self.scale = scale

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        mean = z @ self.matrix.T + self.shift
        return mean, torch.full_like(mean, self.scale).log()

    def log_prob(self, kernels: Tensor, z: Tensor) -> Tensor:
        return gaussian_log_prob(kernels, *self(z))

    def marginal(self) -> MultivariateNormal:
        eye = torch.eye(len(self.shift), dtype=self.shift.dtype, device=self.shift.device)
        return MultivariateNormal(self.shift.detach(), (self.matrix @ self.matrix.T + self.scale**2 * eye).detach())

    def posterior(self) -> tuple[Tensor, Tensor]:
        """Return the matrix of w − b ↦ E[z|w], and the covariance of z|w."""
        latent = self.matrix.shape[1]
        eye = torch.eye(latent, dtype=self.matrix.dtype, device=self.matrix.device)
        covariance = torch.linalg.inv(eye + self.matrix.T @ self.matrix / self.scale**2).detach()
        return (covariance @ self.matrix.T / self.scale**2).detach(), covariance


class LinearEncoder(nn.Module):
    """r(z|w) = N(G (w − b) + offset, diag(s²)); with the right values it is the true posterior if that is diagonal."""

    def __init__(self, gain: Tensor, shift: Tensor, log_scale: Tensor, offset: float = 0.0) -> None:
        super().__init__()
        self.gain, self.log_scale = nn.Parameter(gain.clone()), nn.Parameter(log_scale.clone())
        self.shift, self.offset = nn.Parameter(shift.detach().clone()), offset

    def forward(self, kernels: Tensor) -> tuple[Tensor, Tensor]:
        mean = (kernels - self.shift) @ self.gain.T + self.offset
        return mean, self.log_scale.expand_as(mean)


def orthogonal_decoder(weights: int, latent: int) -> LinearDecoder:
    """Return a decoder with orthogonal columns, whose posterior covariance is diagonal."""
    decoder = LinearDecoder(weights, latent)
    with torch.no_grad():
        columns = torch.linalg.qr(decoder.matrix).Q
        decoder.matrix.copy_(columns * torch.linspace(0.5, 1.5, latent, dtype=torch.float64))
    return decoder


def exact_encoder(decoder: LinearDecoder) -> LinearEncoder:
    gain, covariance = decoder.posterior()
    return LinearEncoder(gain, decoder.shift, 0.5 * covariance.diagonal().log())


def wrong_encoder(decoder: LinearDecoder) -> LinearEncoder:
    gain, covariance = decoder.posterior()
    return LinearEncoder(0.8 * gain, decoder.shift, 0.5 * covariance.diagonal().log() + 0.3, offset=0.2)


class LinearPrior(ImplicitPrior):
    """p(w) of a linear decoder, as a reader would write it: with `conditional` alone."""

    def __init__(self, decoder: LinearDecoder, kernel_shape: tuple[int, ...], group: str = "1") -> None:
        super().__init__(group, decoder.matrix.shape[1], kernel_shape, like=decoder.shift)
        self.decoder = decoder

    def conditional(self, z: Tensor) -> TorchDistribution:
        mean, log_scale = self.decoder(z)
        return Normal(mean, log_scale.exp()).to_event(1)


class LinearDensity(GroupDensity):
    """A learned family of its own, whose decoder is linear and whose encoder is exact."""

    family = "linear Gaussian, for tests"

    def __init__(self, kernel_shape: tuple[int, ...], latent: int = 2) -> None:
        super().__init__(kernel_shape, latent=latent)
        self.decoder = orthogonal_decoder(self.entries, latent)
        self.encoder = exact_encoder(self.decoder)

    def distribution(self, group: str = "") -> LinearPrior:
        prior = LinearPrior(self.decoder, self.kernel_shape, group)
        prior.density = self
        return prior


class LinearFamily(Prior):
    """One linear density for all kernels."""

    def __init__(self, density: LinearDensity) -> None:
        super().__init__()
        self.density = density

    def distribution(self, site: WeightSite) -> LinearPrior:
        return self.density.distribution("linear")
