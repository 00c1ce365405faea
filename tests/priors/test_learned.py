"""The learned priors: what each promises, and the densities that are known against closed forms, torch, scipy, quadrature."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import MultivariateNormal

from pyro_dwp import priors
from pyro_dwp.errors import CheckpointError, ConfigError
from pyro_dwp.kernels.densities import fit_gaussian, fit_student_t
from pyro_dwp.priors import learned
from pyro_dwp.priors.store import save_prior
from pyro_dwp.sites import WeightSite
from tests.helpers import fitted
from tests.helpers.monte_carlo import assert_mean
from tests.helpers.refusal import refuses

CLASSES = {"empirical": priors.Empirical, "student_t": priors.Empirical}
CLASSES |= {"deep_weight": priors.DeepWeight, "mixture": priors.Mixture, "flow": priors.Flow}
EXACT = ["empirical", "student_t", "mixture", "flow"]
EVERY = pytest.mark.parametrize("name", CLASSES)
EACH_EXACT = pytest.mark.parametrize("name", EXACT)
SITE = WeightSite("w", torch.Size([4, 2, 3, 3, 3]), "2")


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Path]:
    folder = tmp_path_factory.mktemp("priors")
    return {(name, ndim): path for ndim in (2, 3) for name, path in fitted.fitted_priors(folder, ndim).items()}


@pytest.fixture
def prior(paths: dict[tuple[str, int], Path], name: str) -> priors.LearnedPrior:
    return CLASSES[name](paths[name, 3])


def shipped(name: str) -> priors.LearnedPrior:
    return CLASSES[name](**({"student_t": True} if name == "student_t" else {}))


def densities(shape: tuple[int, ...]) -> dict[str, priors.GroupDensity]:
    torch.manual_seed(0)
    found = fitted.fitted_densities(fitted.synthetic_kernels(600, shape))
    return {name: density.requires_grad_(False) for name, density in found.items()}


# What every learned prior promises.


@EACH_EXACT
def test_the_density_of_a_site_is_the_sum_over_its_kernels(prior: priors.LearnedPrior, name: str) -> None:
    weight = prior.site_distribution(SITE).sample()
    each = torch.stack([prior.distribution(SITE).log_prob(kernel) for kernel in weight.flatten(0, 1)])
    torch.testing.assert_close(prior.site_distribution(SITE).log_prob(weight), each.sum(), rtol=1e-5, atol=1e-4)


@EVERY
def test_a_learned_prior_is_frozen_and_moves_to_another_dtype(prior: priors.LearnedPrior, name: str) -> None:
    assert len(list(prior.buffers())) > 0
    assert not any(parameter.requires_grad for parameter in prior.parameters())
    single = prior.site_distribution(SITE)
    weight = single.sample()
    expected = single.log_prob(weight).double() if name in EXACT else None
    double = prior.double().site_distribution(SITE)
    assert double.sample().dtype == torch.float64
    if expected is not None:
        torch.testing.assert_close(double.log_prob(weight.double()), expected, rtol=1e-5, atol=1e-3)


@EACH_EXACT
def test_the_density_has_the_gradient_of_finite_differences(prior: priors.LearnedPrior, name: str) -> None:
    density = prior.double().distribution(WeightSite("w", torch.Size([1, 1, 3, 3, 3]), "1"))
    kernel = density.sample().requires_grad_()
    direction, step = torch.randn_like(kernel), 1e-6
    gradient = torch.autograd.grad(density.log_prob(kernel), kernel)[0]
    above, below = (density.log_prob(kernel.detach() + sign * step * direction) for sign in (1, -1))
    assert float((above - below) / (2 * step)) == pytest.approx(float((gradient * direction).sum()), rel=1e-5)


@EVERY
def test_sites_that_the_prior_was_not_fitted_to_are_refused_with_the_cure(prior, name):
    for shape, group, tokens in (
        ((1, 1, 3, 3), "1", ("(3, 3)", "(3, 3, 3)", "train_prior")),
        ((1, 1, 3, 3, 3), "9", ("'9'", "train_prior")),
        ((4, 2, 1, 1, 1), "1x1x1", ("gaussian", "--prior assigned")),
        ((4,), "bias", ("gaussian", "--prior assigned")),
    ):
        with refuses("'w'", *tokens, error=ConfigError):
            prior.distribution(WeightSite("w", torch.Size(shape), group))


@pytest.mark.parametrize("name", ["deep_weight", "empirical"])
def test_a_prior_of_networks_of_another_depth_is_refused(tmp_path: Path, name: str) -> None:
    facts = {"bank": {"layers": {"1": ["init_conv.weight"], "3": ["up1.conv_1.weight"]}}}
    save_prior(tmp_path / "p.safetensors", dict.fromkeys("123", densities((3, 3))[name]), facts)
    site = WeightSite("up1.conv_1.weight", torch.Size([1, 1, 3, 3]), "2")
    with refuses("'up1.conv_1.weight'", "'2'", "'3'", "depth", error=ConfigError):
        CLASSES[name](tmp_path / "p.safetensors").distribution(site)


@EVERY
def test_a_file_of_another_family_names_the_prior_to_use_and_one_that_does_not_ship_the_script(
    paths, name, tmp_path, monkeypatch
):
    family = "empirical" if name == "student_t" else name
    for other in set(CLASSES.values()) - {CLASSES[name]}:
        with refuses(repr(family), f"--prior {family}", error=CheckpointError):
            other(paths[name, 2])
    monkeypatch.setattr(learned, "ASSETS", tmp_path)
    with refuses(repr(family), f"run/train_prior.py --family {family}", error=CheckpointError):
        shipped(name)


def test_a_student_t_is_not_read_from_a_file_of_gaussians(paths: dict[tuple[str, int], Path]) -> None:
    assert priors.Empirical(paths["student_t", 2]).student_t
    assert priors.Empirical(paths["student_t", 2], student_t=True).student_t
    with refuses("Gaussians", "--family.student_t", error=ConfigError):
        priors.Empirical(paths["empirical", 2], student_t=True)


@EVERY
def test_the_prior_that_ships_draws_kernels_of_the_size_of_the_others(name: str) -> None:
    """Of 1,000 draws of a group, quantiles within a factor of 2.5 of the Student t's, none beyond 5 times its largest."""
    prior, student_t = shipped(name), priors.Empirical(student_t=True)
    for group in prior.densities:
        site = WeightSite("w", torch.Size([1000, 1, 3, 3, 3]), group)
        drawn, expected = (p.site_distribution(site).sample().flatten(1).norm(dim=1) for p in (prior, student_t))
        assert drawn.isfinite().all()
        for quantile in (0.1, 0.5, 0.9):
            assert 0.4 < float(drawn.quantile(quantile) / expected.quantile(quantile)) < 2.5
        assert float(drawn.max() / expected.max()) < 5


# The deep weight prior.


def test_a_deep_weight_prior_has_no_density_and_each_call_gives_new_encoders(paths: dict) -> None:
    with pytest.raises(NotImplementedError, match="AuxiliaryELBO"):
        densities((3, 3))["deep_weight"].distribution().log_prob(torch.zeros(3, 3))
    prior = priors.DeepWeight(paths["deep_weight", 3])
    first, second = ([p for e in prior.encoders().values() for p in e.parameters()] for _ in range(2))
    assert all(p.requires_grad for p in first)
    assert not set(map(id, first)) & set(map(id, second))


def test_samples_and_conditional_density_of_a_deep_weight_prior_are_those_of_its_decoder() -> None:
    density = densities((3, 3))["deep_weight"]
    drawn = density.distribution().expand([40_000]).sample().flatten(1)
    mean, log_scale = density.decoder(torch.randn(40_000, 2))
    expected = mean.T.cov() + (2 * log_scale).exp().mean(0).diag()
    error = 5 * float(expected.diagonal().max()) * math.sqrt(2 / 20_000)
    torch.testing.assert_close(drawn.mean(0), mean.mean(0), rtol=0, atol=5 * float((expected.max() / 20_000).sqrt()))
    torch.testing.assert_close(drawn.T.cov(), expected, rtol=0, atol=error)
    prior = density.double().distribution()
    kernels, z = torch.randn(7, 9, dtype=torch.float64), torch.randn(4, 7, 2, dtype=torch.float64)
    torch.testing.assert_close(prior.conditional_log_prob(kernels, z), prior.conditional(z).log_prob(kernels))


# Densities.


def test_the_empirical_gaussian_is_torchs_of_the_kernels_moments() -> None:
    kernels = fitted.synthetic_kernels(500, (3, 3))
    flat = kernels.flatten(1)
    expected = MultivariateNormal(flat.mean(0), flat.T.cov(correction=0)).log_prob(flat[:20])
    found = priors.EmpiricalDensity.of((3, 3), fit_gaussian(flat)).distribution()
    torch.testing.assert_close(found.log_prob(kernels[:20].float()).double(), expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(found.mean.flatten().double(), flat.mean(0))
    torch.testing.assert_close(found.variance.flatten().double(), flat.var(0, correction=0))


@pytest.mark.parametrize("degrees", [0.5, 3.0, 200.0, 1e4])
def test_the_student_t_is_scipys(degrees: float) -> None:
    kernels = fitted.synthetic_kernels(300, (3, 3))
    fit = replace(fit_student_t(kernels.flatten(1)), degrees=degrees)
    density = priors.EmpiricalDensity.of((3, 3), fit)
    scatter = (fit.factor @ fit.factor.T).numpy()
    expected = stats.multivariate_t(fit.mean.numpy(), scatter, df=degrees).logpdf(kernels.flatten(1).numpy())
    found = density.distribution().expand([300]).log_prob(kernels.float())
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=2e-4)


def test_a_mixtures_moments_are_those_of_its_samples_and_a_mixture_of_one_is_the_empirical_gaussian() -> None:
    distribution = densities((2, 2))["mixture"].double().distribution()
    drawn, spread = distribution.sample((100_000,)), distribution.variance
    torch.testing.assert_close(drawn.mean(0), distribution.mean, rtol=0, atol=float(5 * (spread.max() / 1e5).sqrt()))
    torch.testing.assert_close(drawn.var(0), spread, rtol=0.1, atol=0)
    one, gaussian, kernels = priors.MixtureDensity((3, 3), 1), priors.EmpiricalDensity((3, 3)), torch.randn(5, 3, 3)
    torch.testing.assert_close(one.distribution().log_prob(kernels), gaussian.distribution().log_prob(kernels))


def test_rounding_a_fit_to_float32_costs_less_than_a_ten_thousandth_of_a_nat() -> None:
    kernels = fitted.synthetic_kernels(2000, (3, 3, 3))
    flat = kernels.flatten(1)
    for fit in (fit_gaussian(flat), fit_student_t(flat)):
        stored = priors.EmpiricalDensity.of((3, 3, 3), fit).distribution().log_prob(kernels.float()).double()
        assert abs(float((stored - fit.log_density(flat)).mean())) < 1e-4


@pytest.mark.parametrize("shape", [(1, 2), (2, 1)])
@EACH_EXACT
def test_the_density_integrates_to_one_and_samples_have_its_moments(name: str, shape: tuple[int, int]) -> None:
    """E f(w) for two bounded f, from samples and by quadrature."""
    distribution = densities(shape)[name].double().distribution()
    axis = torch.tan(torch.linspace(-1, 1, 401, dtype=torch.float64)[1:-1] * math.pi / 2) * fitted.SCALE
    step = (1 + (axis / fitted.SCALE).square()) * fitted.SCALE * math.pi / 400  # of w = SCALE · tan(πu/2)
    grid = torch.cartesian_prod(axis, axis).reshape(-1, *shape)
    mass = distribution.log_prob(grid).exp() * torch.cartesian_prod(step, step).prod(1)
    assert float(mass.sum()) == pytest.approx(1.0, abs=2e-3)
    drawn = distribution.sample((100_000,))
    for function in (
        lambda u: torch.exp(-u.square().sum(1)),
        lambda u: u.prod(1) * torch.exp(-u.square().sum(1) / 4),
    ):
        found, exact = (function(w.flatten(1) / fitted.SCALE) for w in (drawn, grid))
        assert_mean(found, (exact * mass).sum(), within=3e-3, bias=1e-4)


@pytest.mark.parametrize("shape", [(1, 1, 1), ()])
def test_a_prior_over_kernels_of_one_weight_works(shape: tuple[int, ...]) -> None:
    kernels = fitted.synthetic_kernels(50, shape).reshape(50, 1)
    explicit = [priors.EmpiricalDensity.of(shape, fit(kernels)) for fit in (fit_gaussian, fit_student_t)]
    for density in (*explicit, priors.MixtureDensity(shape, 2)):
        drawn = density.distribution().expand([4, 2]).sample()
        assert drawn.shape == (4, 2, *shape)
        assert density.distribution().expand([4, 2]).log_prob(drawn).shape == (4, 2)
