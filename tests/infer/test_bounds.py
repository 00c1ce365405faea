import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from pyro_dwp.distributions import gaussian_log_prob, kl_to_standard_normal
from pyro_dwp.infer.bounds import auxiliary_bound, cross_entropy_bound, importance_bound
from pyro_dwp.priors import DeepWeightDensity
from tests.helpers import linear_gaussian as oracle
from tests.helpers.monte_carlo import assert_mean

WEIGHTS, LATENT = 27, 3
DECODER, ORTHOGONAL = oracle.LinearDecoder(WEIGHTS, LATENT), oracle.orthogonal_decoder(WEIGHTS, LATENT)
WRONG, EXACT = oracle.wrong_encoder(DECODER), oracle.exact_encoder(ORTHOGONAL)


def kernels(count: int = 40) -> Tensor:
    return 0.7 * torch.randn(count, WEIGHTS, dtype=torch.float64)


def test_the_diagonal_gaussians_density_and_divergence_are_torchs() -> None:
    value, mean, log_scale = torch.randn(3, 4, 7, dtype=torch.float64).unbind()
    normal = Normal(mean, log_scale.exp())
    tight = {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(gaussian_log_prob(value, mean, log_scale), normal.log_prob(value).sum(-1), **tight)
    expected = kl_divergence(normal, Normal(torch.zeros_like(mean), torch.ones_like(mean))).sum(-1)
    torch.testing.assert_close(kl_to_standard_normal(mean, log_scale), expected, **tight)


def test_the_deep_weight_priors_own_log_density_given_z_is_that_of_its_conditional() -> None:
    prior, z = DeepWeightDensity((3, 3), latent=2, hidden=8).distribution(), torch.randn(4, 5, 2)
    kernels = torch.randn(5, 9)
    torch.testing.assert_close(prior.conditional_log_prob(kernels, z), prior.conditional(z).log_prob(kernels))


@pytest.mark.parametrize("draws", [2, 5, 50])
def test_with_the_true_posterior_the_importance_bound_is_exact_and_its_encoder_gradient_vanishes(draws: int) -> None:
    w = kernels()
    bound = importance_bound(w, EXACT, ORTHOGONAL.log_prob, draws)
    torch.testing.assert_close(bound.total, -ORTHOGONAL.marginal().log_prob(w), rtol=1e-11, atol=1e-11)
    for gradient in torch.autograd.grad(bound.total.sum(), [EXACT.gain, EXACT.log_scale]):
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-9)


@pytest.mark.parametrize(("decoder", "encoder"), [(ORTHOGONAL, EXACT), (DECODER, WRONG)], ids=["exact", "wrong"])
def test_the_gap_of_the_single_draw_bound_is_the_encoders_kl_to_the_posterior(decoder, encoder) -> None:
    w = kernels(1)
    mean, log_scale = (x.detach()[0] for x in encoder(w))
    gain, covariance = decoder.posterior()
    r = MultivariateNormal(mean, torch.diag((2 * log_scale).exp()))
    gap = kl_divergence(r, MultivariateNormal((w[0] - decoder.shift.detach()) @ gain.T, covariance)).item()
    bound, density = auxiliary_bound(w.expand(40_000, -1), encoder, decoder.log_prob), decoder.marginal().log_prob(w[0])
    assert gap > 0.1 if encoder is WRONG else abs(gap) < 1e-9
    assert_mean(bound.total.detach() + density, gap, within=0.1 * (gap if encoder is WRONG else density.abs()))


def test_the_bound_falls_with_the_number_of_draws_towards_the_density() -> None:
    w = kernels(1).expand(4_000, -1)
    exact = -DECODER.marginal().log_prob(w[0])
    bounds = [cross_entropy_bound(w, WRONG, DECODER.log_prob, draws).total.detach() for draws in (1, 2, 8, 64)]
    gaps = torch.stack(bounds) - exact
    means, errors = gaps.mean(1), gaps.std(1) / 4_000**0.5
    assert (means[:-1] - means[1:] > 3 * torch.hypot(errors[:-1], errors[1:])).all()
    assert -4 * errors[3] < means[3] < 0.1 * means[0]


def test_bound_terms_add_up_to_the_total() -> None:
    for draws in (1, 7):
        bound = cross_entropy_bound(kernels(), WRONG, DECODER.log_prob, draws)
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
            w, lambda k: called(encoder, {"gain": gain, "log_scale": log_scale}, (k,)), decoder.log_prob, draws, False
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
        bound = cross_entropy_bound(w, encoder, decoder.log_prob, draws, doubly).total.sum()
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
