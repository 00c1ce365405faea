"""The learned priors with a density that is known: their fits and densities against closed forms, torch, scipy, quadrature."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import MultivariateNormal

from pyro_dwp.errors import CheckpointError, ConfigError
from pyro_dwp.kernels.densities import fit_gaussian, fit_student_t
from pyro_dwp.nn import UNet
from pyro_dwp.priors import (
    DeepWeight,
    Empirical,
    EmpiricalDensity,
    Flow,
    KernelDensity,
    LearnedPrior,
    Mixture,
    MixtureDensity,
    learned,
)
from pyro_dwp.priors.density import density_class
from pyro_dwp.priors.store import save_prior
from pyro_dwp.sites import WeightSite, weight_sites

_spec = importlib.util.spec_from_file_location("fitted", Path(__file__).with_name("fitted.py"))
fitted = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fitted)

CLASSES = {
    "deep_weight": DeepWeight,
    "empirical": Empirical,
    "student_t": Empirical,
    "mixture": Mixture,
    "flow": Flow,
}
EXACT = ["empirical", "student_t", "mixture", "flow"]
RUNS = pytest.mark.parametrize("name", CLASSES)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Path]:
    folder = tmp_path_factory.mktemp("priors")
    return {(name, ndim): path for ndim in (2, 3) for name, path in fitted.fitted_priors(folder, ndim).items()}


@pytest.fixture
def prior(paths: dict[tuple[str, int], Path], name: str) -> LearnedPrior:
    return CLASSES[name](str(paths[name, 3]))


def densities(shape: tuple[int, ...]) -> dict[str, KernelDensity]:
    torch.manual_seed(0)
    found = fitted.fitted_densities(fitted.synthetic_kernels(600, shape))
    return {name: density.requires_grad_(False) for name, density in found.items()}


# What every learned prior promises.


@RUNS
@pytest.mark.parametrize("ndim", [2, 3])
def test_each_site_has_a_prior_of_its_shape(paths: dict[tuple[str, int], Path], name: str, ndim: int) -> None:
    prior = CLASSES[name](str(paths[name, ndim]))
    for site in weight_sites(UNet(channels=fitted.CHANNELS, ndim=ndim)).values():
        one, whole = prior.distribution(site), prior.site_distribution(site)
        assert (one.batch_shape, one.event_shape) == ((), site.kernel_shape)
        assert whole.sample((2,)).shape == (2, *site.shape)


@pytest.mark.parametrize("name", EXACT)
def test_the_density_of_a_site_is_the_sum_over_its_kernels(prior: LearnedPrior, name: str) -> None:
    site = WeightSite("w", torch.Size([4, 2, 3, 3, 3]), "2")
    weight = prior.site_distribution(site).sample()
    each = torch.stack([prior.distribution(site).log_prob(kernel) for kernel in weight.flatten(0, 1)])
    torch.testing.assert_close(prior.site_distribution(site).log_prob(weight), each.sum(), rtol=1e-5, atol=1e-4)


@RUNS
def test_a_learned_prior_is_frozen(prior: LearnedPrior, name: str) -> None:
    assert not any(parameter.requires_grad for parameter in prior.parameters())


@RUNS
def test_a_learned_prior_moves_to_another_dtype(prior: LearnedPrior, name: str) -> None:
    site = WeightSite("w", torch.Size([4, 2, 3, 3, 3]), "2")
    weight = prior.site_distribution(site).sample()
    single = None if name == "deep_weight" else prior.site_distribution(site).log_prob(weight)
    prior.double()
    assert prior.site_distribution(site).sample().dtype == torch.float64
    if single is not None:
        double = prior.site_distribution(site).log_prob(weight.double())
        assert double.dtype == torch.float64
        torch.testing.assert_close(double, single.double(), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("name", EXACT)
def test_the_density_has_the_gradient_of_finite_differences(prior: LearnedPrior, name: str) -> None:
    density = prior.double().distribution(WeightSite("w", torch.Size([1, 1, 3, 3, 3]), "1"))
    kernel = density.sample().requires_grad_()
    direction, step = torch.randn_like(kernel), 1e-6
    gradient = torch.autograd.grad(density.log_prob(kernel), kernel)[0]
    above, below = (density.log_prob(kernel.detach() + sign * step * direction) for sign in (1, -1))
    assert float((above - below) / (2 * step)) == pytest.approx(float((gradient * direction).sum()), rel=1e-5)


@RUNS
def test_only_an_implicit_prior_needs_encoders(prior: LearnedPrior, name: str) -> None:
    assert bool(prior.encoders()) == (name == "deep_weight")


@RUNS
def test_sites_that_the_prior_was_not_fitted_to_are_refused_with_the_cure(prior: LearnedPrior, name: str) -> None:
    with pytest.raises(ConfigError, match=r"'w'.*\(3, 3\).*\(3, 3, 3\).*train_prior"):
        prior.distribution(WeightSite("w", torch.Size([1, 1, 3, 3]), "1"))
    with pytest.raises(ConfigError, match=r"'w'.*group '9'.*train_prior"):
        prior.distribution(WeightSite("w", torch.Size([1, 1, 3, 3, 3]), "9"))
    for shape, group in (((4, 2, 1, 1, 1), "1x1x1"), ((4,), "bias")):
        with pytest.raises(ConfigError, match=r"'w'.*one weight.*gaussian.*--prior assigned"):
            prior.distribution(WeightSite("w", torch.Size(shape), group))


def test_a_prior_of_networks_of_another_depth_is_refused(tmp_path: Path) -> None:
    facts = {"bank": {"layers": {"1": ["init_conv.weight"], "3": ["up1.conv_1.weight"]}}}
    save_prior(tmp_path / "p.safetensors", {group: EmpiricalDensity((3, 3)) for group in "123"}, facts)
    with pytest.raises(ConfigError, match=r"'up1.conv_1.weight' is in group '2'.*in group '3'.*another depth"):
        Empirical(str(tmp_path / "p.safetensors")).distribution(
            WeightSite("up1.conv_1.weight", torch.Size([1, 1, 3, 3]), "2")
        )


@RUNS
def test_a_file_of_another_family_is_refused_by_every_prior(paths: dict[tuple[str, int], Path], name: str) -> None:
    for other_class in set(CLASSES.values()):
        if other_class is not CLASSES[name]:
            family = "empirical" if name == "student_t" else name
            with pytest.raises(CheckpointError, match=f"{family!r}.*--prior {family}"):
                other_class(str(paths[name, 2]))


@pytest.mark.parametrize("name", CLASSES)
def test_a_prior_that_does_not_ship_names_the_script(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learned, "ASSETS", tmp_path)
    family = "empirical" if name == "student_t" else name
    with pytest.raises(CheckpointError, match=rf"{family!r} ships.*run/train_prior\.py --prior {family}"):
        CLASSES[name](**({"student_t": True} if name == "student_t" else {}))


def test_a_student_t_is_not_read_from_a_file_of_gaussians(paths: dict[tuple[str, int], Path]) -> None:
    assert Empirical(str(paths["student_t", 2])).student_t
    assert Empirical(str(paths["student_t", 2]), student_t=True).student_t
    with pytest.raises(ConfigError, match=r"holds Gaussians.*--prior\.student_t true"):
        Empirical(str(paths["empirical", 2]), student_t=True)


@RUNS
def test_the_prior_that_ships_draws_kernels_of_the_size_of_the_others(name: str) -> None:
    """Of 5,000 draws of a group all are finite, quantiles within a factor of 2.5 of the Student t's, none beyond 5 times its
    largest."""
    prior = CLASSES[name](**({"student_t": True} if name == "student_t" else {}))
    for group in prior.stored.densities:
        site, norms = WeightSite("w", torch.Size([5000, 1, 3, 3, 3]), group), []
        for each in (prior, Empirical(student_t=True)):
            torch.manual_seed(0)
            norms.append(each.site_distribution(site).sample().flatten(1).norm(dim=1))
        drawn, expected = norms
        assert drawn.isfinite().all()
        for quantile in (0.1, 0.5, 0.9):
            assert 0.4 < float(drawn.quantile(quantile) / expected.quantile(quantile)) < 2.5
        assert float(drawn.max() / expected.max()) < 5


def test_an_unknown_family_lists_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"'mixtures'.*deep_weight, empirical, flow, mixture.*Did you mean 'mixture'"):
        density_class("mixtures")


# Densities.


def test_the_empirical_gaussian_is_torchs_of_the_kernels_moments() -> None:
    kernels = fitted.synthetic_kernels(500, (3, 3))
    flat = kernels.flatten(1)
    expected = MultivariateNormal(flat.mean(0), flat.T.cov(correction=0)).log_prob(flat[:20])
    found = EmpiricalDensity.of((3, 3), fit_gaussian(flat)).distribution()
    torch.testing.assert_close(found.log_prob(kernels[:20].float()).double(), expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(found.mean.flatten().double(), flat.mean(0))
    torch.testing.assert_close(found.variance.flatten().double(), flat.var(0, correction=0))


@pytest.mark.parametrize("degrees", [0.5, 3.0, 200.0, 1e4])
def test_the_student_t_is_scipys(degrees: float) -> None:
    kernels = fitted.synthetic_kernels(300, (3, 3))
    fit = fit_gaussian(kernels.flatten(1))
    density = EmpiricalDensity((3, 3), student_t=True)
    density.mean.copy_(fit.mean)
    density.scale_tril.copy_(fit.factor)
    density.degrees.fill_(degrees)
    scatter = (fit.factor @ fit.factor.T).numpy()
    expected = stats.multivariate_t(fit.mean.numpy(), scatter, df=degrees).logpdf(kernels.flatten(1).numpy())
    found = density.distribution().expand([300]).log_prob(kernels.float())
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=2e-4)


def test_rounding_a_fit_to_float32_costs_less_than_a_ten_thousandth_of_a_nat() -> None:
    kernels = fitted.synthetic_kernels(2000, (3, 3, 3))
    flat = kernels.flatten(1)
    for fit in (fit_gaussian(flat), fit_student_t(flat)):
        stored = EmpiricalDensity.of((3, 3, 3), fit).distribution().log_prob(kernels.float()).double()
        assert abs(float((stored - fit.log_density(flat)).mean())) < 1e-4


@pytest.mark.parametrize("shape", [(1, 2), (2, 1)])
@pytest.mark.parametrize("name", EXACT)
def test_the_density_integrates_to_one(name: str, shape: tuple[int, int]) -> None:
    density = densities(shape)[name].double()
    axis = torch.tan(torch.linspace(-1, 1, 401, dtype=torch.float64)[1:-1] * math.pi / 2) * fitted.SCALE
    step = (1 + (axis / fitted.SCALE).square()) * fitted.SCALE * math.pi / 400  # of w = SCALE · tan(πu/2)
    grid = torch.cartesian_prod(axis, axis).reshape(-1, *shape)
    total = (density.distribution().log_prob(grid).exp() * torch.cartesian_prod(step, step).prod(1)).sum()
    assert float(total) == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize("name", EXACT)
def test_samples_have_the_moments_of_the_density(name: str) -> None:
    """E f(w) for two bounded f: from samples (5 standard errors), and by quadrature."""
    density = densities((1, 2))[name].double()
    distribution = density.distribution()
    axis = torch.linspace(-1.5, 1.5, 751, dtype=torch.float64)  # beyond, the functions below are 0
    grid = torch.cartesian_prod(axis, axis).reshape(-1, 1, 2)
    mass = distribution.log_prob(grid).exp() * (axis[1] - axis[0]) ** 2
    drawn = distribution.sample((100_000,))
    for function in (
        lambda w: torch.exp(-(w / fitted.SCALE).square().sum((1, 2))),
        lambda w: w[:, 0, 0] * w[:, 0, 1] / fitted.SCALE**2 * torch.exp(-(w / fitted.SCALE).square().sum((1, 2)) / 4),
    ):
        values = function(drawn)
        error = float(values.std()) / math.sqrt(len(values))
        assert float(values.mean()) == pytest.approx(float((function(grid) * mass).sum()), abs=5 * error + 1e-4)


def test_a_mixtures_moments_are_those_of_its_samples() -> None:
    distribution = densities((2, 2))["mixture"].double().distribution()
    drawn = distribution.sample((100_000,))
    spread = distribution.variance
    torch.testing.assert_close(drawn.mean(0), distribution.mean, rtol=0, atol=float(5 * (spread.max() / 1e5).sqrt()))
    torch.testing.assert_close(drawn.var(0), spread, rtol=0.1, atol=0)


def test_a_mixture_of_one_is_the_empirical_gaussian() -> None:
    density, gaussian = MixtureDensity((3, 3), 1), EmpiricalDensity((3, 3))
    kernels = torch.randn(5, 3, 3)
    torch.testing.assert_close(density.distribution().log_prob(kernels), gaussian.distribution().log_prob(kernels))


@pytest.mark.parametrize("name", ["empirical", "student_t", "mixture"])
def test_a_prior_over_kernels_of_one_weight_works(name: str) -> None:
    for shape in ((1, 1, 1), ()):
        kernels = fitted.synthetic_kernels(50, shape).reshape(50, 1)
        if name == "mixture":
            density = MixtureDensity(shape, 2)
        else:
            density = EmpiricalDensity.of(shape, (fit_student_t if name == "student_t" else fit_gaussian)(kernels))
        drawn = density.distribution().expand([4, 2]).sample()
        assert drawn.shape == (4, 2, *shape)
        assert density.distribution().expand([4, 2]).log_prob(drawn).shape == (4, 2)
