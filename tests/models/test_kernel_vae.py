import math

import pyro
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from torch import nn
from torch.distributions import MultivariateNormal

from models.kernel_vae import KernelVAE, importance_bounds, sample_kernels
from pyro_dwp.kernels.information import estimate
from pyro_dwp.nn.kernel_coders import KernelCoders, build_coders

ENTRIES, LATENT, SIGMA = 9, 2, 0.3


class LinearDecoder(nn.Module):
    """p(w|z) = N(A z + b, σ² I), whose marginal is N(b, A Aᵀ + σ² I)."""

    def __init__(self):
        super().__init__()
        self.register_buffer("matrix", torch.randn(ENTRIES, LATENT, dtype=torch.float64))
        self.register_buffer("offset", torch.randn(ENTRIES, dtype=torch.float64))

    def forward(self, z):
        mean = z @ self.matrix.T + self.offset
        return mean, torch.full_like(mean, math.log(SIGMA))


class ExactEncoder(nn.Module):
    """The posterior p(z|w) where A has orthogonal columns, shifted by `error`."""

    def __init__(self, decoder, error=0.0):
        super().__init__()
        self.decoder, self.error = decoder, error

    def forward(self, w):
        precision = 1 + self.decoder.matrix.square().sum(0) / SIGMA**2
        mean = (w - self.decoder.offset) @ self.decoder.matrix / SIGMA**2 / precision
        return mean + self.error, (-0.5 * precision.log()).expand_as(mean)


def a_linear_vae(error=0.0):
    torch.manual_seed(0)
    decoder = LinearDecoder()
    decoder.matrix.copy_(torch.linalg.qr(decoder.matrix)[0] * torch.tensor([1.0, 2.0]))
    marginal = MultivariateNormal(
        decoder.offset, decoder.matrix @ decoder.matrix.T + SIGMA**2 * torch.eye(ENTRIES, dtype=torch.float64)
    )
    return KernelVAE(KernelCoders(ExactEncoder(decoder, error), decoder, LATENT)), marginal


@pytest.mark.parametrize("samples", [1, 7])
def test_with_the_true_posterior_the_bound_is_the_log_density(samples):
    vae, marginal = a_linear_vae()
    kernels = marginal.sample((5,))
    torch.testing.assert_close(importance_bounds(vae, kernels, samples), marginal.log_prob(kernels))


@pytest.mark.parametrize("loss", [Trace_ELBO, TraceMeanField_ELBO])
def test_with_the_true_posterior_the_elbo_is_the_log_density_scaled_by_n_over_m(loss):
    vae, marginal = a_linear_vae()
    kernels = marginal.sample((50,))
    elbo = -loss(num_particles=200).loss(vae.model, vae.guide, kernels, 1000)
    expected = float(marginal.log_prob(kernels).sum()) * 1000 / 50
    error = 0.0 if loss is Trace_ELBO else 20 * math.sqrt(50 * LATENT / 2 / 200)
    assert elbo == pytest.approx(expected, abs=1e-6 + 4 * error)


def test_more_samples_tighten_the_bound_towards_the_log_density():
    vae, marginal = a_linear_vae(error=0.15)
    kernels = marginal.sample((2000,))
    exact = marginal.log_prob(kernels)
    gaps = [importance_bounds(vae, kernels, samples) - exact for samples in (1, 10, 300)]
    means = [float(gap.mean()) for gap in gaps]
    error = float(gaps[-1].std()) / math.sqrt(len(kernels))
    assert means[0] < means[1] < means[2] < 4 * error
    assert means[2] > -0.1


def test_the_bound_does_not_depend_on_how_kernels_are_shaped():
    vae, marginal = a_linear_vae()
    kernels = marginal.sample((6,))
    torch.testing.assert_close(importance_bounds(vae, kernels.reshape(6, 3, 3), 3), importance_bounds(vae, kernels, 3))


def test_with_the_true_posterior_the_mean_bound_is_minus_the_entropy():
    vae, marginal = a_linear_vae()
    kernels = marginal.sample((400,))
    found = estimate(importance_bounds(vae, kernels, 2))
    assert found.error == pytest.approx(float(marginal.log_prob(kernels).std()) / 20, rel=1e-6)
    assert abs(found.mean + float(marginal.entropy())) < 4 * found.error


def test_sampled_kernels_have_the_marginals_mean_and_covariance():
    coders = build_coders("dense", (3, 3), LATENT, kernel_scale=0.1, hidden=8)
    kernels = sample_kernels(coders, 40_000)
    with torch.no_grad():
        mean, log_scale = coders.decoder(torch.randn(40_000, LATENT))
    covariance = mean.T.cov() + (2 * log_scale).exp().mean(0).diag()
    error = 0.1**2 * 6 / math.sqrt(40_000)
    torch.testing.assert_close(kernels.T.cov(), covariance, rtol=0, atol=error)
    torch.testing.assert_close(kernels.mean(0), mean.mean(0), rtol=0, atol=0.1 * 6 / math.sqrt(40_000))


def test_svi_captures_the_parameters_of_both_coders():
    vae = KernelVAE(build_coders("dense", hidden=8))
    with pyro.poutine.trace(param_only=True) as capture:
        TraceMeanField_ELBO().loss_and_grads(vae.model, vae.guide, torch.randn(4, 27), 4)
    captured = {id(node["value"]) for node in capture.trace.nodes.values()}
    assert captured == {id(parameter) for parameter in vae.parameters()}
    assert all(parameter.grad is not None for parameter in vae.parameters())


def test_two_autoencoders_do_not_share_parameters_through_pyros_store():
    first, second = (KernelVAE(build_coders("dense", hidden=8)) for _ in range(2))
    for vae in (first, second):
        TraceMeanField_ELBO().loss(vae.model, vae.guide, torch.randn(4, 27), 4)
    assert not pyro.get_param_store().keys()
    assert not torch.equal(first.encoder.layers[0].weight, second.encoder.layers[0].weight)


@pytest.mark.parametrize("variant", ["paper", "dense"])
def test_the_gradient_of_the_loss_is_that_of_finite_differences(variant):
    torch.manual_seed(0)
    vae = KernelVAE(build_coders(variant, hidden=8)).double()
    kernels = torch.randn(3, 27, dtype=torch.float64)

    def loss():
        torch.manual_seed(1)
        return TraceMeanField_ELBO().differentiable_loss(vae.model, vae.guide, kernels, 30)

    parameter = vae.encoder.mean.weight if variant == "paper" else vae.encoder.layers[-1].weight
    gradient = torch.autograd.grad(loss(), parameter)[0]
    direction, step = torch.randn_like(parameter), 1e-5
    values = []
    with torch.no_grad():
        for sign in (1, -1):
            parameter.add_(sign * step * direction)
            values.append(float(loss()))
            parameter.sub_(sign * step * direction)
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(float((gradient * direction).sum()), rel=1e-5)
