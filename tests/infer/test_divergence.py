import math

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from pyro_dwp.distributions import Reshaped
from pyro_dwp.infer.divergence import gaussian_cross_entropy, gaussian_kl, site_entropy, site_kl
from tests.helpers.monte_carlo import assert_mean

SHAPE, KERNEL = (3, 2, 2, 2), torch.Size([2, 2])
WEIGHTS, ENTRIES = math.prod(SHAPE), 4
SHAPES = [SHAPE, (3, 1, 2, 2), (1, 1, 2, 2)]


def factor() -> Tensor:
    return torch.eye(ENTRIES) * 0.7 + torch.randn(ENTRIES, ENTRIES).tril(-1) * 0.3


def kernel_prior(shape: tuple[int, ...] = SHAPE) -> tuple[dist.TorchDistribution, MultivariateNormal]:
    """Return a correlated Gaussian over kernels, and the same over all weights as torch knows it."""
    mean, tril = torch.randn(ENTRIES), factor()
    prior = Reshaped(dist.MultivariateNormal(mean, scale_tril=tril), KERNEL).expand(shape[:2]).to_event(2)
    kernels = math.prod(shape) // ENTRIES
    return prior, MultivariateNormal(mean.repeat(kernels), scale_tril=torch.block_diag(*[tril] * kernels))


def node(fn: dist.TorchDistribution) -> dict:
    return {"fn": fn, "value": fn.sample(), "scale": 1.0, "mask": None}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["one covariance", "a covariance for each kernel", "independent weights"])
def test_the_kl_from_a_correlated_kernel_prior_is_the_dense_gaussians(kind: str, shape: tuple[int, ...]) -> None:
    prior, dense = kernel_prior(shape)
    mean, kernels = torch.randn(shape), math.prod(shape) // ENTRIES
    if kind == "independent weights":
        scale = torch.rand(shape) + 0.1
        q, tril = dist.Normal(mean, scale).to_event(4), scale.flatten().diag()
    else:
        trils = torch.stack([factor()] * kernels if "one" in kind else [factor() for _ in range(kernels)])
        each = trils[0] if "one" in kind else trils.reshape(*shape[:2], ENTRIES, ENTRIES)
        q = Reshaped(dist.MultivariateNormal(mean.flatten(2), scale_tril=each), KERNEL).to_event(2)
        tril = torch.block_diag(*trils)
    assert gaussian_cross_entropy(q, prior) is not None
    expected = kl_divergence(MultivariateNormal(mean.flatten(), scale_tril=tril), dense)
    torch.testing.assert_close(site_kl(node(q), node(prior), closed_form=True), expected)


def test_the_kl_of_correlated_weights_from_an_independent_prior_is_the_dense_gaussians() -> None:
    tril = torch.eye(WEIGHTS) * 0.5 + torch.randn(WEIGHTS, WEIGHTS).tril(-1) * 0.1
    q = Reshaped(dist.MultivariateNormal(torch.randn(WEIGHTS), scale_tril=tril), torch.Size(SHAPE))
    prior = dist.Normal(torch.randn(SHAPE), torch.rand(SHAPE) + 0.5).to_event(4)
    dense = MultivariateNormal(prior.mean.flatten(), scale_tril=prior.base_dist.scale.flatten().diag())
    torch.testing.assert_close(site_kl(node(q), node(prior), closed_form=True), kl_divergence(q.base, dense))


def test_the_sampled_divergence_has_the_closed_form_as_its_mean() -> None:
    prior, _ = kernel_prior()
    q = dist.Normal(torch.randn(SHAPE), 0.3 * torch.ones(SHAPE)).to_event(4)
    exact = site_kl(node(q), node(prior), closed_form=True)
    drawn = torch.stack([site_kl(node(q), node(prior), closed_form=False) for _ in range(4000)])
    assert_mean(drawn, exact, within=0.02 * exact)


def test_a_covariance_for_each_kernel_is_left_to_sampling() -> None:
    trils = torch.stack([factor() for _ in range(6)]).reshape(3, 2, ENTRIES, ENTRIES)
    prior = Reshaped(dist.MultivariateNormal(torch.zeros(3, 2, ENTRIES), scale_tril=trils), KERNEL).to_event(2)
    q = dist.Normal(torch.zeros(SHAPE), torch.ones(SHAPE)).to_event(4)
    assert gaussian_cross_entropy(q, prior) is None
    site, model_site = node(q), node(prior)
    expected = -site_entropy(site) - prior.log_prob(site["value"])
    torch.testing.assert_close(site_kl(site, model_site, closed_form=True), expected)


def test_a_point_mass_has_no_divergence_but_its_penalty() -> None:
    value = torch.randn(SHAPE)
    prior = dist.Normal(torch.zeros(SHAPE), torch.ones(SHAPE)).to_event(4)
    q = dist.Delta(value, event_dim=4)
    torch.testing.assert_close(site_kl(node(q), node(prior), closed_form=True), -prior.log_prob(value))


def test_the_divergence_of_independent_gaussians_and_all_its_gradients_are_torchs() -> None:
    moments = [torch.randn(5, 3), torch.rand(5, 3) + 0.1, torch.randn(3), torch.rand(()) + 0.1]
    q_mean, q_scale, p_mean, p_scale = (value.requires_grad_() for value in moments)
    q, p = dist.Normal(q_mean, q_scale), dist.Normal(p_mean, p_scale)
    ours, theirs = gaussian_kl(q, p), kl_divergence(q, p).sum()
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(value, moments) for value in (ours, theirs)))
    whole = node(q.to_event(2)), node(p.expand((5, 3)).to_event(2))
    torch.testing.assert_close(site_kl(*whole, closed_form=True), theirs)
