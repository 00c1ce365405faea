"""The kernel VAE as a Pyro program: where everything is linear its ELBO is the log density, and SVI sees its parameters."""

import math

import pyro
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO

from models.kernel_vae import KernelVAE
from pyro_dwp.nn.kernel_coders import KernelCoders, build_coders
from tests.helpers.linear_gaussian import exact_encoder, orthogonal_decoder

LATENT = 2


@pytest.mark.parametrize("loss", [Trace_ELBO, TraceMeanField_ELBO])
def test_with_the_true_posterior_the_elbo_is_the_log_density_scaled_by_n_over_b(loss: type) -> None:
    decoder = orthogonal_decoder(9, LATENT)
    vae = KernelVAE(KernelCoders(exact_encoder(decoder), decoder, LATENT))
    kernels = decoder.marginal().sample((50,))
    elbo = -loss(num_particles=200).loss(vae.model, vae.guide, kernels, 1000)
    expected = float(decoder.marginal().log_prob(kernels).sum()) * 1000 / 50
    error = 0.0 if loss is Trace_ELBO else 20 * math.sqrt(50 * LATENT / 2 / 200)
    assert elbo == pytest.approx(expected, abs=1e-6 + 4 * error)


def test_svi_captures_the_parameters_of_both_coders_and_leaves_nothing_in_pyros_store() -> None:
    for _ in range(2):
        vae = KernelVAE(build_coders("dense", hidden=8))
        with pyro.poutine.trace(param_only=True) as capture:
            TraceMeanField_ELBO().loss_and_grads(vae.model, vae.guide, torch.randn(4, 27), 4)
        captured = {id(node["value"]) for node in capture.trace.nodes.values()}
        assert captured == {id(parameter) for parameter in vae.parameters()}
        assert all(parameter.grad is not None for parameter in vae.parameters())
        assert not pyro.get_param_store().keys()


@pytest.mark.parametrize("variant", ["paper", "dense", "shallow"])
def test_the_loss_written_out_is_that_of_the_pyro_program_and_so_is_its_gradient(variant: str) -> None:
    vae = KernelVAE(build_coders(variant, kernel_scale=0.3, hidden=8)).double()
    kernels = 0.3 * torch.randn(40, 27, dtype=torch.float64)
    gradients, losses = [], []
    for loss in (
        lambda: vae.loss(kernels).mean(),
        lambda: TraceMeanField_ELBO().differentiable_loss(vae.model, vae.guide, kernels, 1000) / 1000,
    ):
        torch.manual_seed(1)
        losses.append(loss())
        gradients.append(torch.autograd.grad(losses[-1], list(vae.parameters())))
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("variant", ["paper", "dense", "shallow"])
def test_the_gradient_of_the_loss_is_that_of_finite_differences(variant: str) -> None:
    vae = KernelVAE(build_coders(variant, hidden=8)).double()
    kernels = torch.randn(3, 27, dtype=torch.float64)

    def loss() -> torch.Tensor:
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
