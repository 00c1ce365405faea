"""A decoder for which everything is known in closed form: w | z ~ N(A z + b, s² I), so w ~ N(b, A Aᵀ + s² I)."""

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal


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
