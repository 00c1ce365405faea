import importlib.util
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from pyro_dwp.infer.bounds import (
    auxiliary_bound,
    cross_entropy_bound,
    gaussian_log_prob,
    importance_bound,
    kl_to_standard_normal,
    scaled_subset,
)

_spec = importlib.util.spec_from_file_location("linear_gaussian", Path(__file__).with_name("linear_gaussian.py"))
oracle = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(oracle)

WEIGHTS, LATENT = 27, 3


def kernels(count: int = 40) -> Tensor:
    return 0.7 * torch.randn(count, WEIGHTS, dtype=torch.float64)


def within(estimates: Tensor, expected: float, errors: float = 4.0) -> None:
    """Check a Monte-Carlo mean against a closed form, at so many standard errors of that mean."""
    standard_error = estimates.std() / math.sqrt(len(estimates))
    assert standard_error < 0.1 * max(abs(expected), 0.1), f"too noisy to say: {standard_error=}"
    assert abs(estimates.mean() - expected) < errors * standard_error, (estimates.mean(), expected, standard_error)


def test_the_latent_term_is_torchs_kl_divergence_of_gaussians() -> None:
    mean, log_scale = torch.randn(5, LATENT, dtype=torch.float64), torch.randn(5, LATENT, dtype=torch.float64)
    r = torch.distributions.Normal(mean, log_scale.exp())
    expected = kl_divergence(r, torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))).sum(-1)
    torch.testing.assert_close(kl_to_standard_normal(mean, log_scale), expected, rtol=1e-12, atol=1e-12)


def test_gaussian_log_prob_is_torchs() -> None:
    value, mean, log_scale = torch.randn(3, 4, 7, dtype=torch.float64).unbind()
    expected = torch.distributions.Normal(mean, log_scale.exp()).log_prob(value).sum(-1)
    torch.testing.assert_close(gaussian_log_prob(value, mean, log_scale), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("draws", [2, 5, 50])
def test_with_the_true_posterior_the_importance_bound_is_the_negative_log_density_to_rounding(draws: int) -> None:
    decoder = oracle.orthogonal_decoder(WEIGHTS, LATENT)
    w = kernels()
    bound = importance_bound(w, oracle.exact_encoder(decoder), decoder, draws)
    torch.testing.assert_close(bound.total, -decoder.marginal().log_prob(w), rtol=1e-11, atol=1e-11)


def test_with_the_true_posterior_the_single_draw_bound_is_the_negative_log_density_in_mean() -> None:
    decoder = oracle.orthogonal_decoder(WEIGHTS, LATENT)
    w = kernels(1).expand(20_000, -1)
    bound = auxiliary_bound(w, oracle.exact_encoder(decoder), decoder)
    within(bound.total.detach(), -decoder.marginal().log_prob(w[0]).item())


def test_the_gap_of_the_single_draw_bound_is_the_encoders_kl_to_the_posterior() -> None:
    decoder = oracle.LinearDecoder(WEIGHTS, LATENT)
    encoder = oracle.wrong_encoder(decoder)
    w = kernels(1)
    mean, log_scale = (x.detach()[0] for x in encoder(w))
    gain, covariance = decoder.posterior()
    r = MultivariateNormal(mean, torch.diag((2 * log_scale).exp()))
    gap = kl_divergence(r, MultivariateNormal((w[0] - decoder.shift.detach()) @ gain.T, covariance)).item()
    bound = auxiliary_bound(w.expand(40_000, -1), encoder, decoder)
    assert gap > 0.1
    within(bound.total.detach() + decoder.marginal().log_prob(w[0]), gap)


def test_the_bound_falls_with_the_number_of_draws_towards_the_density() -> None:
    decoder = oracle.LinearDecoder(WEIGHTS, LATENT)
    encoder = oracle.wrong_encoder(decoder)
    w = kernels(1).expand(4_000, -1)
    exact = -decoder.marginal().log_prob(w[0])
    gaps = [(cross_entropy_bound(w, encoder, decoder, draws).total.detach() - exact) for draws in (1, 2, 8, 64)]
    means = [gap.mean().item() for gap in gaps]
    errors = [gap.std().item() / math.sqrt(len(gap)) for gap in gaps]
    for i in range(3):
        assert means[i] - means[i + 1] > 3 * math.hypot(errors[i], errors[i + 1]), (means, errors)
    assert -4 * errors[3] < means[3] < 0.1 * means[0]


def test_bound_terms_add_up_to_the_total() -> None:
    decoder = oracle.LinearDecoder(WEIGHTS, LATENT)
    for draws in (1, 7):
        bound = cross_entropy_bound(kernels(), oracle.wrong_encoder(decoder), decoder, draws)
        torch.testing.assert_close(bound.total, bound.kl_latent + bound.reconstruction)


@pytest.mark.parametrize("draws", [1, 4])
def test_plain_gradients_match_finite_differences_under_common_random_numbers(draws: int) -> None:
    decoder = oracle.LinearDecoder(4, 2)
    encoder = oracle.wrong_encoder(decoder)
    w = (0.5 * torch.randn(3, 4, dtype=torch.float64)).requires_grad_()

    def total(w: Tensor, gain: Tensor, log_scale: Tensor) -> Tensor:
        torch.manual_seed(3)
        called = torch.func.functional_call
        return cross_entropy_bound(
            w, lambda k: called(encoder, {"gain": gain, "log_scale": log_scale}, (k,)), decoder, draws, False
        ).total.sum()

    inputs = (w, encoder.gain.detach().requires_grad_(), encoder.log_scale.detach().requires_grad_())
    assert torch.autograd.gradcheck(total, inputs, eps=1e-6, atol=1e-6)


def encoder_and_kernel_gradients(doubly: bool, draws: int, repeats: int) -> Tensor:
    decoder = oracle.LinearDecoder(6, 2)
    encoder = oracle.wrong_encoder(decoder)
    torch.manual_seed(11)
    w = torch.randn(1, 6, dtype=torch.float64).requires_grad_()
    rows = []
    for _ in range(repeats):
        bound = cross_entropy_bound(w, encoder, decoder, draws, doubly).total.sum()
        gradients = torch.autograd.grad(bound, [encoder.gain, encoder.log_scale, w])
        rows.append(torch.cat([g.flatten() for g in gradients]))
    return torch.stack(rows)


def test_plain_and_doubly_reparametrised_gradients_have_the_same_mean() -> None:
    plain, doubly = (encoder_and_kernel_gradients(kind, 5, 3_000) for kind in (False, True))
    error = (plain.var(0) / len(plain) + doubly.var(0) / len(doubly)).sqrt()
    assert ((plain.mean(0) - doubly.mean(0)).abs() < 4.5 * error).all()


def test_the_doubly_reparametrised_encoder_gradient_is_less_noisy_for_many_draws() -> None:
    def signal_to_noise(doubly: bool) -> float:
        psi = encoder_and_kernel_gradients(doubly, 64, 400)[:, :14]
        return (psi.mean(0).abs() / psi.std(0)).mean().item()

    assert signal_to_noise(True) > 2 * signal_to_noise(False)


def test_with_the_true_posterior_the_doubly_reparametrised_encoder_gradient_vanishes() -> None:
    decoder = oracle.orthogonal_decoder(WEIGHTS, LATENT)
    encoder = oracle.exact_encoder(decoder)
    bound = importance_bound(kernels(), encoder, decoder, 6)
    for gradient in torch.autograd.grad(bound.total.sum(), [encoder.gain, encoder.log_scale]):
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-9)


def test_sums_over_scaled_subsets_average_to_the_full_sum() -> None:
    values = torch.randn(50, dtype=torch.float64) + 3
    estimates = []
    for _ in range(4_000):
        chosen, factor = scaled_subset(50, 7, torch.device("cpu"))
        estimates.append(factor * values[chosen].sum())
    within(torch.stack(estimates), values.sum().item())
