"""Explicit priors against SciPy, quadrature, importance sampling and known moments; their KL divergences against both."""

import math
from collections.abc import Callable

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import integrate, special, stats
from torch import Tensor, nn

from pyro_dwp.errors import ConfigError
from pyro_dwp.infer.divergence import site_kl
from pyro_dwp.priors import Gaussian, Laplace, PriorFamily, ScaleMixture, StudentT
from pyro_dwp.sites import WeightSite, weight_sites

SCALE = 0.3
FREEDOM = 20.0  # moments up to the 16th exist, so that the standard error of the kurtosis is itself known
KURTOSIS_T = 3 + 6 / (FREEDOM - 4)
RATIO, WEIGHT = 0.2, 0.4
MIXED = WEIGHT + (1 - WEIGHT) * RATIO**2

FAMILIES: dict[str, Callable[..., PriorFamily]] = {
    "gaussian": Gaussian,
    "laplace": Laplace,
    "student_t": lambda **settings: StudentT(FREEDOM, **settings),
    "student_t per kernel": lambda **settings: StudentT(FREEDOM, per="kernel", **settings),
    "scale_mixture": lambda **settings: ScaleMixture(ratio=RATIO, weight=WEIGHT, **settings),
}
KURTOSIS = {
    "gaussian": 3.0,
    "laplace": 6.0,
    "student_t": KURTOSIS_T,
    "student_t per kernel": KURTOSIS_T,
    "scale_mixture": 3 * (WEIGHT + (1 - WEIGHT) * RATIO**4) / MIXED**2,
}
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


def test_the_density_of_a_kernel_is_scipys(name: str) -> None:
    w = torch.randn(50, 3, 3) * 2 * SCALE
    density = FAMILIES[name](scale=SCALE).distribution(site(8, 4, 3, 3)).expand([50]).log_prob(w)
    np.testing.assert_allclose(density, scipy_log_density(name, w.flatten(1).numpy()), rtol=1e-9)


def test_the_density_of_a_weight_integrates_to_one_and_its_variance_is_the_scale_squared(name: str) -> None:
    prior = FAMILIES[name](scale=SCALE).distribution(site(4))

    def density(w: float) -> float:
        return prior.log_prob(torch.tensor(w)).exp().item()

    halves = [integrate.quad(density, *limits)[0] for limits in ((-math.inf, 0), (0, math.inf))]
    assert sum(halves) == pytest.approx(1, abs=1e-6)
    assert halves[0] == pytest.approx(0.5, abs=1e-6)
    second = integrate.quad(lambda w: w**2 * density(w), 0, math.inf)[0]
    assert 2 * second == pytest.approx(SCALE**2, rel=1e-5)


def test_the_density_of_a_kernel_integrates_to_one(name: str) -> None:
    """Importance sampling from a heavier-tailed proposal: the standard error is below 0.01, and 4 of them are allowed."""
    prior = FAMILIES[name](scale=SCALE).distribution(site(8, 4, 2, 2))
    proposal = stats.multivariate_t(shape=(0.7 * SCALE) ** 2 * np.eye(4), df=3, seed=0)
    drawn = proposal.rvs(100_000)
    log_density = prior.expand([len(drawn)]).log_prob(torch.from_numpy(drawn).reshape(-1, 2, 2)).numpy()
    ratio = np.exp(log_density - proposal.logpdf(drawn))
    error = ratio.std() / math.sqrt(len(ratio))
    assert error < 0.01
    assert abs(ratio.mean() - 1) < 4 * error


@pytest.mark.parametrize("shape", [(500, 100, 3, 3), (200_000,)], ids=["kernels", "bias"])
def test_samples_have_the_known_mean_variance_and_kurtosis(name: str, shape: tuple[int, ...]) -> None:
    """Means over 50,000 or 200,000 independent kernels; 4 standard errors, estimated from the kernels, are allowed."""
    w = FAMILIES[name](scale=SCALE).site_distribution(site(*shape)).sample().reshape(math.prod(shape[:2]), -1) / SCALE
    for power, expected in ((1, 0.0), (2, 1.0), (4, KURTOSIS[name])):
        moments = w.pow(power).mean(1)
        error = moments.std() / math.sqrt(len(moments))
        assert error < 0.03 * max(expected, 1)
        assert abs(moments.mean() - expected) < 4 * error


@pytest.mark.parametrize("per", ["weight", "kernel"])
def test_only_per_kernel_are_weights_of_a_student_t_kernel_large_together(per: str) -> None:
    """Weights that share a scale √u have cov(log |w₁|, log |w₂|) = var(log u) / 4 = ψ₁(ν/2) / 4, and cov(w₁, w₂) = 0.

    90,000 kernels; 4 standard errors are allowed.
    """
    w = StudentT(4.0, scale=1.0, per=per).site_distribution(site(300, 300, 2, 2)).sample().reshape(-1, 4).double()
    logs = w.abs().log() - w.abs().log().mean(0)
    products, expected = logs[:, 0] * logs[:, 1], special.polygamma(1, 2.0) / 4 if per == "kernel" else 0.0
    error = products.std() / math.sqrt(len(products))
    assert error < 0.006
    assert abs(products.mean() - expected) < 4 * error
    signs = (w[:, 0] * w[:, 1]).sign().mean()
    assert abs(signs) < 4 / math.sqrt(len(w))


@pytest.mark.parametrize("shape", [(3, 2, 2, 2), (6,)], ids=["kernels", "bias"])
@pytest.mark.parametrize("name", ["gaussian", "laplace"], indirect=True)
def test_the_closed_form_of_the_kl_divergence_is_the_mean_of_the_sampled_one(name: str, shape: tuple[int, ...]) -> None:
    """20,000 samples; 4 standard errors are allowed."""
    prior = FAMILIES[name](scale=SCALE).site_distribution(site(*shape))
    guide = dist.Normal(0.2 * torch.randn(shape), 0.05 + 0.3 * torch.rand(shape)).to_event(len(shape))
    first, second = (site_kl(node(guide), node(prior), closed_form=True) for _ in range(2))
    assert torch.equal(first, second)
    w = guide.sample((20_000,))
    sampled = guide.log_prob(w) - prior.log_prob(w)
    error = sampled.std() / math.sqrt(len(sampled))
    assert error < 0.01 * first
    assert abs(sampled.mean() - first) < 4 * error


def test_the_sampled_kl_divergence_of_a_weight_is_the_quadratures(name: str) -> None:
    """The mean over 40,000 weights of one site with the same guide; 4 standard errors are allowed."""
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


def test_the_sampled_kl_divergence_of_a_whole_kernel_is_the_quadratures() -> None:
    """Under a Gaussian guide |w|² / scale² is non-central χ²; 20,000 kernels, 4 standard errors are allowed."""
    torch.set_default_dtype(torch.float64)
    mean, scale = torch.tensor([[0.2, -0.1], [0.3, 0.0]]), 0.15
    prior = StudentT(5.0, scale=SCALE, per="kernel").site_distribution(site(200, 100, 2, 2))
    guide = dist.Normal(mean.expand(200, 100, 2, 2), scale).to_event(4)
    radius = stats.ncx2(df=4, nc=(mean / scale).square().sum().item())
    c = SCALE * math.sqrt(3 / 5)
    peak = stats.multivariate_t(shape=c**2 * np.eye(4), df=5).logpdf(np.zeros(4))

    def cross(r: float) -> float:
        return radius.pdf(r) * (0.5 * (5 + 4) * math.log1p(scale**2 * r / (5 * c**2)) - peak)

    exact = integrate.quad(cross, 0, 200)[0] - 4 * stats.norm(0, scale).entropy()
    drawn = node(guide)
    sampled = site_kl(drawn, node(prior), closed_form=True) / 20_000
    error = prior.base_dist.log_prob(drawn["value"]).std().item() / math.sqrt(20_000)
    assert error < 0.01 * exact
    assert abs(sampled.item() - exact) < 4 * error


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


@pytest.mark.parametrize("settings", [{"scale": 0.0}, {"scale": -1.0}, {"gain": 0.0}])
def test_a_prior_without_width_is_refused(name: str, settings: dict) -> None:
    with pytest.raises(ConfigError, match=r"needs positive scale and gain.*scale is the standard deviation"):
        FAMILIES[name](**settings)


def test_a_student_t_without_a_variance_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"more than 2 degrees of freedom.*received 2\.0"):
        StudentT(2.0)
    with pytest.raises(ConfigError, match=r"'layer'.*Legal names are: kernel, weight"):
        StudentT(per="layer")


@pytest.mark.parametrize("settings", [{"ratio": 0.0}, {"ratio": 1.0}, {"weight": 0.0}, {"weight": 1.0}])
def test_a_scale_mixture_of_one_gaussian_is_refused(settings: dict) -> None:
    with pytest.raises(ConfigError, match=r"between 0 and 1.*gaussian"):
        ScaleMixture(**settings)


def test_a_scale_mixture_takes_the_papers_numbers() -> None:
    share, broad, narrow = 0.75, math.exp(-1), math.exp(-7)
    scale = math.sqrt(share * broad**2 + (1 - share) * narrow**2)
    prior = ScaleMixture(scale=scale, ratio=narrow / broad, weight=share).double().distribution(site(4))
    w = torch.tensor([0.0, 0.001, 0.5], dtype=torch.float64)
    expected = share * stats.norm(0, broad).pdf(w) + (1 - share) * stats.norm(0, narrow).pdf(w)
    assert isinstance(prior.log_prob(w), Tensor)
    np.testing.assert_allclose(prior.log_prob(w), np.log(expected), rtol=1e-6)
