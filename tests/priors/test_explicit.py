"""Explicit priors against SciPy, quadrature and known moments; their KL divergences against both."""

import math
from collections.abc import Callable

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import integrate, special, stats
from torch import nn

from pyro_dwp.errors import ConfigError
from pyro_dwp.infer.divergence import site_kl
from pyro_dwp.priors import Gaussian, Laplace, Prior, ScaleMixture, StudentT
from pyro_dwp.sites import WeightSite, weight_sites
from tests.helpers.monte_carlo import assert_mean
from tests.helpers.refusal import refuses

SCALE = 0.3
FREEDOM = 20.0  # moments up to the 16th exist, so that the standard error of the kurtosis is itself known
KURTOSIS_T = 3 + 6 / (FREEDOM - 4)
RATIO, WEIGHT = 0.2, 0.4
MIXED = WEIGHT + (1 - WEIGHT) * RATIO**2
KURTOSIS_MIXED = 3 * (WEIGHT + (1 - WEIGHT) * RATIO**4) / MIXED**2

FAMILIES: dict[str, Callable[..., Prior]] = {
    "gaussian": Gaussian,
    "laplace": Laplace,
    "student_t": lambda **settings: StudentT(FREEDOM, **settings),
    "student_t per kernel": lambda **settings: StudentT(FREEDOM, per="kernel", **settings),
    "scale_mixture": lambda **settings: ScaleMixture(ratio=RATIO, weight=WEIGHT, **settings),
}
KURTOSIS = dict(zip(FAMILIES, (3.0, 6.0, KURTOSIS_T, KURTOSIS_T, KURTOSIS_MIXED), strict=True))
SHAPES = [(4,), (4, 3), (4, 3, 1, 1, 1), (4, 3, 3, 3), (2, 3, 3, 3, 3)]


@pytest.fixture(params=list(FAMILIES))
def name(request: pytest.FixtureRequest) -> str:
    torch.set_default_dtype(torch.float64)
    return request.param


def site(*shape: int) -> WeightSite:
    return WeightSite("w", torch.Size(shape), "1")


def scipy_log_density(name: str, w: np.ndarray) -> np.ndarray:
    """Return the log density of kernels w, (N, P), from SciPy."""
    c = SCALE * math.sqrt((FREEDOM - 2) / FREEDOM)
    if name == "student_t per kernel":
        return stats.multivariate_t(shape=c**2 * np.eye(w.shape[1]), df=FREEDOM).logpdf(w)
    if name == "scale_mixture":
        broad = SCALE / math.sqrt(MIXED)
        density = WEIGHT * stats.norm(0, broad).pdf(w) + (1 - WEIGHT) * stats.norm(0, RATIO * broad).pdf(w)
        return np.log(density).sum(1)
    marginal = {
        "gaussian": stats.norm(0, SCALE),
        "laplace": stats.laplace(0, SCALE / math.sqrt(2)),
        "student_t": stats.t(FREEDOM, 0, c),
    }
    return marginal[name].logpdf(w).sum(1)


def node(fn: dist.TorchDistribution) -> dict:
    return {"fn": fn, "value": fn.rsample() if fn.has_rsample else fn.sample(), "scale": 1.0, "mask": None}


def test_the_density_of_a_weight_integrates_to_one_and_its_variance_is_the_scale_squared(name: str) -> None:
    prior = FAMILIES[name](scale=SCALE).distribution(site(4))

    def density(w: float) -> float:
        return prior.log_prob(torch.tensor(w)).exp().item()

    halves = [integrate.quad(density, *limits)[0] for limits in ((-math.inf, 0), (0, math.inf))]
    assert sum(halves) == pytest.approx(1, abs=1e-6)
    assert halves[0] == pytest.approx(0.5, abs=1e-6)
    second = integrate.quad(lambda w: w**2 * density(w), 0, math.inf)[0]
    assert 2 * second == pytest.approx(SCALE**2, rel=1e-5)


@pytest.mark.parametrize("shape", [(500, 100, 3, 3), (200_000,)], ids=["kernels", "bias"])
def test_samples_have_the_known_mean_variance_and_kurtosis(name: str, shape: tuple[int, ...]) -> None:
    w = FAMILIES[name](scale=SCALE).site_distribution(site(*shape)).sample().reshape(math.prod(shape[:2]), -1) / SCALE
    for power, expected in ((1, 0.0), (2, 1.0), (4, KURTOSIS[name])):
        assert_mean(w.pow(power).mean(1), expected, within=0.03 * max(expected, 1))


@pytest.mark.parametrize("per", ["weight", "kernel"])
def test_only_per_kernel_are_weights_of_a_student_t_kernel_large_together(per: str) -> None:
    """Weights that share a scale √u have cov(log |w₁|, log |w₂|) = var(log u) / 4 = ψ₁(ν/2) / 4, and cov(w₁, w₂) = 0."""
    w = StudentT(4.0, scale=1.0, per=per).site_distribution(site(300, 300, 2, 2)).sample().reshape(-1, 4).double()
    logs = w.abs().log() - w.abs().log().mean(0)
    assert_mean(logs[:, 0] * logs[:, 1], special.polygamma(1, 2.0) / 4 if per == "kernel" else 0.0, within=0.006)
    assert_mean((w[:, 0] * w[:, 1]).sign(), 0.0, within=0.004)


def test_the_kl_divergence_of_a_weight_is_the_quadratures(name: str) -> None:
    """In closed form where there is one, and sampled, as the mean over 40,000 weights of one site with the same guide."""
    count, mean, scale = 40_000, 0.25, 0.15
    prior = FAMILIES[name](scale=SCALE).site_distribution(site(count))
    guide = dist.Normal(mean * torch.ones(count), scale * torch.ones(count)).to_event(1)
    q = stats.norm(mean, scale)

    def integrand(w: float) -> float:
        return q.pdf(w) * (q.logpdf(w) - scipy_log_density(name, np.array([[w]])).item())

    exact, accuracy = integrate.quad(integrand, mean - 9 * scale, mean + 9 * scale, points=[0.0], limit=200)
    drawn = node(guide)
    sampled = site_kl(drawn, node(prior), closed_form=False) / count
    terms = scipy_log_density(name, guide.sample()[:, None].numpy())
    error = terms.std() / math.sqrt(count)
    assert accuracy < 1e-6
    assert error < 0.02 * exact
    assert abs(sampled.item() - exact) < 4 * error
    if name in ("gaussian", "laplace"):
        assert site_kl(drawn, node(prior), closed_form=True).item() / count == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_site_has_a_prior_that_samples_and_scores_it(name: str, shape: tuple[int, ...]) -> None:
    family, place = FAMILIES[name](scale=SCALE), site(*shape)
    assert family.distribution(place).batch_shape == ()
    assert family.distribution(place).event_shape == place.kernel_shape
    prior = family.site_distribution(place)
    w = prior.sample()
    assert w.shape == prior.event_shape == place.shape
    np.testing.assert_allclose(
        prior.log_prob(w).item(), scipy_log_density(name, w.reshape(place.num_kernels, -1).numpy()).sum(), rtol=1e-9
    )


def test_the_density_has_gradients_and_follows_the_familys_dtype(name: str) -> None:
    for dtype in (torch.float32, torch.float64):
        prior = FAMILIES[name](scale=SCALE).to(dtype).site_distribution(site(4, 3, 3, 3))
        w = prior.sample().requires_grad_()
        assert w.dtype == dtype
        (gradient,) = torch.autograd.grad(prior.log_prob(w), w)
        assert gradient.dtype == dtype
        assert gradient.isfinite().all()
        assert (gradient * w.detach() < 0).all()  # every one of these priors pulls towards 0


def test_without_a_scale_the_standard_deviation_is_hes_times_the_gain(name: str) -> None:
    network = nn.Sequential(nn.Conv3d(2, 4, 3), nn.Conv2d(3, 4, 5), nn.Linear(7, 2))
    fan_in = {"0": 2 * 27, "1": 3 * 25, "2": 7}
    for place in weight_sites(network, expose=lambda _: True).values():
        variance = FAMILIES[name](gain=0.5).distribution(place).variance
        expected = 0.25 * 2 / fan_in[place.name.partition(".")[0]]
        torch.testing.assert_close(variance, torch.full(place.kernel_shape, expected))


@pytest.mark.parametrize(
    ("family", "setting", "values"),
    [
        *((family, name, (0.0, -1.0, math.nan, math.inf, "wide")) for family in FAMILIES for name in ("scale", "gain")),
        (StudentT, "degrees_of_freedom", (2.0, -1.0, math.nan)),
        (StudentT, "per", ("layer",)),
        *((ScaleMixture, name, (0.0, 1.0, math.nan)) for name in ("ratio", "weight")),
    ],
)
def test_a_setting_that_makes_no_such_prior_is_named(family: object, setting: str, values: tuple) -> None:
    for value in values:
        with refuses(f"{setting} is {value!r}", error=ConfigError):
            FAMILIES.get(family, family)(**{setting: value})
