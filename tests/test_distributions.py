import math
from collections.abc import Callable
from itertools import product

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor
from torch.distributions import MixtureSameFamily, MultivariateNormal

from pyro_dwp.distributions import ChannelDropout, GaussianMixture, MatrixNormal, Reshaped, UniformMixture
from tests.helpers.monte_carlo import assert_mean

ROWS, COLUMNS, ENTRIES = 3, 2, 4
SHAPE = torch.Size((ROWS, COLUMNS, ENTRIES))


@pytest.fixture(autouse=True)
def _double() -> None:
    torch.set_default_dtype(torch.float64)


def tril(size: int) -> Tensor:
    return torch.randn(size, size).tril(-1) + torch.rand(size).add(0.5).diag()


def matrices() -> tuple[MatrixNormal, MultivariateNormal]:
    """Return a matrix normal, and the same as a dense Gaussian over the flat vector."""
    loc, rows, columns, scale = torch.randn(SHAPE), tril(ROWS), tril(COLUMNS), torch.rand(ENTRIES) + 0.5
    covariance = torch.kron(torch.kron(rows @ rows.T, columns @ columns.T), scale.square().diag())
    return MatrixNormal(loc, rows, columns, scale), MultivariateNormal(loc.flatten(), covariance)


def test_the_matrix_normals_density_entropy_and_moments_are_the_dense_gaussians() -> None:
    q, dense = matrices()
    value = torch.randn(5, *SHAPE)
    torch.testing.assert_close(q.log_prob(value), dense.log_prob(value.flatten(1)))
    torch.testing.assert_close(q.entropy(), dense.entropy())
    torch.testing.assert_close(q.mean.flatten(), dense.mean)
    torch.testing.assert_close(q.variance.flatten(), dense.variance)


def test_draws_of_the_matrix_normal_have_its_covariance() -> None:
    q, dense = matrices()
    draws = q.rsample((50_000,)).flatten(1)
    assert_mean(draws, dense.mean, within=0.02, errors=4.5)
    centred = draws - dense.mean  # of 576 products, none beyond 4.5 errors
    assert_mean(centred[:, :, None] * centred[:, None], dense.covariance_matrix, within=0.06, errors=4.5)


def test_draws_of_the_matrix_normal_carry_gradients_to_every_parameter() -> None:
    parameters = [x.requires_grad_() for x in (torch.randn(SHAPE), tril(ROWS), tril(COLUMNS), torch.ones(ENTRIES))]
    MatrixNormal(*parameters).rsample((7,)).square().sum().backward()
    assert all(parameter.grad.isfinite().all() and parameter.grad.any() for parameter in parameters)


def test_an_expanded_matrix_normal_is_a_batch_of_independent_ones() -> None:
    q, dense = matrices()
    many = q.expand([2, 3])
    value = many.sample((5,))
    assert value.shape == (5, 2, 3, *SHAPE)
    torch.testing.assert_close(many.log_prob(value), dense.log_prob(value.flatten(3)))
    torch.testing.assert_close(many.entropy(), dense.entropy().expand(2, 3))
    assert many.mean.shape == many.variance.shape == (2, 3, *SHAPE)


@pytest.mark.parametrize("event_shape", [(24,), (2, 3, 4), (24, 1), (1, 1, 24)])
@pytest.mark.parametrize("base", ["vector", "matrices"])
def test_a_reshaped_distribution_is_its_base_in_another_layout(event_shape: tuple[int, ...], base: str) -> None:
    q, dense = matrices()
    reshaped = Reshaped(q if base == "matrices" else dense, torch.Size(event_shape))
    value = reshaped.expand([2]).rsample((3,))
    assert value.shape == (3, 2, *event_shape)
    torch.testing.assert_close(reshaped.log_prob(value), dense.log_prob(value.flatten(2)))
    torch.testing.assert_close(reshaped.variance.flatten(), dense.variance)
    torch.testing.assert_close(reshaped.entropy(), dense.entropy())


def test_a_kernel_of_one_weight_is_a_reshaped_vector_of_one_entry() -> None:
    biases = Reshaped(dist.MultivariateNormal(torch.zeros(5, 1), torch.eye(1)), torch.Size()).to_event(1)
    value = biases.sample()
    assert value.shape == (5,)
    torch.testing.assert_close(biases.log_prob(value), dist.Normal(torch.tensor(0.0), 1.0).log_prob(value).sum())


def three_gaussians() -> tuple[UniformMixture, MixtureSameFamily]:
    loc, scale = torch.randn(3, 4), torch.rand(3, 4) + 0.2
    parts = [dist.Normal(m, s).to_event(1) for m, s in zip(loc, scale, strict=True)]
    same = MixtureSameFamily(dist.Categorical(torch.ones(3)), dist.Normal(loc, scale).to_event(1))
    return UniformMixture(parts), same


def test_the_mixtures_density_and_moments_are_those_of_torchs() -> None:
    ours, torchs = three_gaussians()
    value = torch.randn(6, 4)
    torch.testing.assert_close(ours.log_prob(value), torchs.log_prob(value))
    torch.testing.assert_close(ours.mean, torchs.mean)
    torch.testing.assert_close(ours.variance, torchs.variance)


def test_draws_of_the_mixture_have_its_moments() -> None:
    q, _ = three_gaussians()
    draws = q.sample((40_000,))
    assert_mean(draws, q.mean, within=0.02)
    assert_mean((draws - q.mean).square(), q.variance, within=0.02)


def test_each_event_of_an_expanded_mixture_has_a_component_of_its_own() -> None:
    ends = UniformMixture([dist.Delta(torch.full((2,), value), event_dim=1) for value in (-1.0, 1.0)])
    draws = ends.expand([3]).sample((200,))
    assert draws.shape == (200, 3, 2)
    assert torch.equal(draws[..., 0], draws[..., 1])  # one component for the whole event
    assert 0.4 < draws.add(1).div(2).mean() < 0.6  # 600 fair coins: standard error 0.02
    assert not torch.equal(draws[:, 0], draws[:, 1])


@pytest.mark.parametrize("rate", [0.0, 0.25, 0.6])
@pytest.mark.parametrize("axis", [0, 1])
def test_the_moments_and_entropy_of_dropout_are_sums_over_all_masks(rate: float, axis: int) -> None:
    value = torch.randn(4, 3, 2)
    q, slices = ChannelDropout(value, rate, axis, event_dim=3), value.shape[axis]
    masks = torch.tensor(list(product([0.0, 1.0], repeat=slices)))
    chances = rate ** (slices - masks.sum(1)) * (1 - rate) ** masks.sum(1)
    every = value * (masks / (1 - rate)).reshape(-1, *(slices if i == axis else 1 for i in range(3)))
    mean, square = (torch.tensordot(chances, moment, 1) for moment in (every, every.square()))
    torch.testing.assert_close(q.mean, mean)
    torch.testing.assert_close(q.variance, square - mean.square())
    torch.testing.assert_close(q.entropy(), -torch.special.xlogy(chances, chances).sum())


def test_draws_of_dropout_are_masked_values_as_often_as_their_chance_and_carry_gradients() -> None:
    """4,000 draws of 2 events; the standard error of a share of masks is below 0.006."""
    value = torch.randn(3, 2, 2, requires_grad=True)
    q = ChannelDropout(value, rate=0.25, axis=1, event_dim=3).expand([2])
    draws = q.rsample((4_000,))
    kept = (draws != 0).flatten(0, 1)
    assert draws.shape == (4_000, 2, 3, 2, 2)
    assert torch.equal(kept, kept[:, :1, :, :1].expand_as(kept))
    torch.testing.assert_close(draws, value / 0.75 * (draws != 0))
    for mask in product([False, True], repeat=2):
        share = (kept[:, 0, :, 0] == torch.tensor(mask)).all(1).double()
        assert_mean(share, math.prod(0.75 if here else 0.25 for here in mask), within=0.006)
    (slope,) = torch.autograd.grad(draws.sum(), value)
    torch.testing.assert_close(slope, (draws != 0).sum((0, 1)) / 0.75)


@pytest.mark.parametrize(
    ("build", "token"),
    [
        (lambda: MatrixNormal(torch.zeros(SHAPE), torch.eye(3), torch.eye(3), torch.ones(4)), r"\(2, 2\).*\(3, 3\)"),
        (lambda: Reshaped(dist.Normal(0.0, 1.0), torch.Size([5])), "of 5 entries"),
        (lambda: Reshaped(dist.Normal(torch.zeros(4), 1.0).to_event(1), torch.Size([5])), "of 5 entries"),
        (lambda: UniformMixture([]), "one batch shape"),
        (lambda: UniformMixture([dist.Normal(torch.zeros(n), 1.0) for n in (2, 3)]), "one batch shape"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(build: Callable[[], dist.TorchDistribution], token: str) -> None:
    with pytest.raises(ValueError, match=token):
        build()


def gaussian_mixtures() -> tuple[GaussianMixture, MixtureSameFamily]:
    """Return a mixture of three Gaussians, and torch's."""
    log_weights, means, factors = (
        torch.randn(3).log_softmax(0),
        torch.randn(3, 4),
        torch.stack([tril(4) for _ in "abc"]),
    )
    theirs = MixtureSameFamily(
        torch.distributions.Categorical(logits=log_weights), MultivariateNormal(means, scale_tril=factors)
    )
    return GaussianMixture(log_weights, means, factors), theirs


def test_the_gaussian_mixtures_density_its_gradient_and_its_moments_are_torchs() -> None:
    ours, theirs = gaussian_mixtures()
    value = 3 * torch.randn(5, 2, 4).requires_grad_()
    densities = ours.expand([2]).log_prob(value), theirs.log_prob(value)
    torch.testing.assert_close(*densities)
    torch.testing.assert_close(*(torch.autograd.grad(density.sum(), value)[0] for density in densities))
    one = value.detach()[0, 0]
    torch.testing.assert_close(ours.expand([2]).log_prob(one), theirs.log_prob(one).expand(2))
    torch.testing.assert_close(ours.mean, theirs.mean)
    torch.testing.assert_close(ours.variance, theirs.variance)


def test_draws_of_the_gaussian_mixture_have_its_moments() -> None:
    ours, _ = gaussian_mixtures()
    draws = ours.expand([100]).sample((1000,)).flatten(0, 1)
    assert_mean(draws, ours.mean, within=0.05, errors=4.5)
    assert_mean((draws - ours.mean).square(), ours.variance, within=0.2, errors=4.5)
