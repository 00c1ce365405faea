"""The latent guide against a linear decoder, for which q(w) is Gaussian, and its copies of the decoders of any implicit prior."""

import json
import math
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from guides import Ensemble, Latent
from models.segmentation import SegmentationModel
from pyro_dwp.errors import CheckpointError, ConfigError
from pyro_dwp.infer import AuxiliaryELBO, weight_scales
from pyro_dwp.likelihoods import DiceCrossEntropy
from pyro_dwp.nn import UNet
from pyro_dwp.priors import Assigned, DeepWeight, DeepWeightDensity, Gaussian, Rule
from pyro_dwp.priors.store import save_prior
from pyro_dwp.sites import WeightSite, weight_sites
from pyro_dwp.train import SVI, JointAdam
from tests.helpers import linear_gaussian as oracle
from tests.helpers.examples import example
from tests.helpers.guides import assert_same_draws, moved, started, unet
from tests.helpers.monte_carlo import assert_mean
from tests.helpers.refusal import refuses

LATENT, EDGE, CHANNELS = 2, 2, (3, 2)
WEIGHTS = EDGE**3
SITE = WeightSite("w", torch.Size([*CHANNELS, EDGE, EDGE, EDGE]), "1")
KERNELS = math.prod(CHANNELS)
OBSERVED, NOISE = 1.5, 10.0


def stored(folder: Path, ndim: int = 3, name: str = "prior", hidden: int = 8) -> Path:
    path = folder / f"{name}-{ndim}.safetensors"
    groups = sorted(set(UNet(channels=(2, 4), ndim=ndim).kernel_groups().values()))
    save_prior(path, {g: DeepWeightDensity((3,) * ndim, latent=2, hidden=hidden, kernel_scale=0.1) for g in groups}, {})
    return path


class Linear:
    """A latent guide over one site with a linear decoder, for which q(w) is Gaussian; in float64, with factor f."""

    def __init__(self, factor: float = 0.7) -> None:
        torch.set_default_dtype(torch.float64)
        self.prior = oracle.LinearFamily(oracle.LinearDensity(SITE.kernel_shape, LATENT))
        self.decoder, self.factor = self.prior.density.decoder, factor
        self.guide = started(Latent({"w": SITE}), {"w": torch.randn(SITE.shape)}, self.prior)
        self.guide.fill("latent_mean", "w", 0.5 * torch.randn(*CHANNELS, LATENT))
        self.guide.fill("latent_log_scale", "w", 0.3 * torch.randn(*CHANNELS, LATENT) - 1)
        self.guide.fill("log_noise", "w", torch.tensor(math.log(factor)))

    def with_encoder(self, exact: bool) -> Latent:
        """Set the encoder that makes r exact, the likelihood of z given w, or a wrong one."""
        square = self.decoder.matrix.detach().square().sum(0)
        gain = self.decoder.matrix.detach().T / square[:, None]
        log_scale = math.log(self.factor * self.decoder.scale) - 0.5 * square.log()
        self.guide.density("w").encoder = (
            oracle.LinearEncoder(gain, self.decoder.shift, log_scale)
            if exact
            else oracle.LinearEncoder(0.8 * gain, self.decoder.shift, log_scale + 0.3, offset=0.3)
        )
        return self.guide

    def marginal(self) -> MultivariateNormal:
        """Return q(w) of the kernels, batch shape (KERNELS,)."""
        mean = self.guide.parameter("latent_mean", "w").detach().flatten(0, 1)
        variance = self.guide.parameter("latent_log_scale", "w").detach().flatten(0, 1).mul(2).exp()
        matrix, noise = self.decoder.matrix.detach(), (self.factor * self.decoder.scale) ** 2
        covariance = matrix @ torch.diag_embed(variance) @ matrix.T + noise * torch.eye(WEIGHTS)
        return MultivariateNormal(mean @ matrix.T + self.decoder.shift.detach(), covariance)


def program(prior: dist.TorchDistribution) -> None:
    w = pyro.sample("w", prior.expand(CHANNELS).to_event(2))
    pyro.sample("y", dist.Normal(w.sum(), NOISE), obs=torch.tensor(OBSERVED))


def expected_data(q: MultivariateNormal) -> Tensor:
    """Return E_q log p(y | w) of `program`."""
    variance = q.covariance_matrix.sum()
    return Normal(q.mean.sum(), NOISE).log_prob(torch.tensor(OBSERVED)) - 0.5 * variance / NOISE**2


def assert_loss(elbo: Trace_ELBO, guide: Latent, prior: dist.TorchDistribution, expected: Tensor, exact: bool) -> None:
    """Check that the mean loss of 500 draws is what is expected, or above it by 6 standard errors, below 0.5 nats."""
    with torch.no_grad(), pyro.validation_enabled(False):
        above = torch.tensor([elbo.loss(program, guide, prior) for _ in range(500)]) - expected
    error = above.std() / 500**0.5
    assert error < 0.5
    assert above.mean().abs() < 4 * error if exact else above.mean() > 6 * error


def log_q(guide: Latent) -> tuple[Tensor, Tensor]:
    """Return a draw of w and its log q(z) + log q(w|z) − log r(z|w)."""
    trace = pyro.poutine.trace(guide).get_trace()
    trace.compute_log_prob()
    names = {name for name, node in trace.nodes.items() if node["type"] == "sample"}
    assert names == {"w", "w.latent", "w.reverse"}
    return trace.nodes["w"]["value"], sum(trace.nodes[name]["log_prob_sum"] for name in names)


def above_q(guide: Latent, q: MultivariateNormal, times: int) -> tuple[list[Tensor], Tensor]:
    """Return draws of w, and how far log q(z) + log q(w|z) − log r(z|w) is above log q(w) at each."""
    pairs = [log_q(guide) for _ in range(times)]
    above = [found - q.log_prob(w.reshape(KERNELS, WEIGHTS)).sum() for w, found in pairs]
    return [w for w, _ in pairs], torch.stack(above)


def test_the_log_density_is_qs_or_above_it_by_the_reverse_models_divergence_from_qs_posterior() -> None:
    """1,000 draws: the mean of the difference is KL(q(z|w) ‖ r(z|w)), averaged over w, within 4 standard errors (5 %)."""
    linear = Linear()
    q = linear.marginal()
    above = above_q(linear.with_encoder(exact=True), q, 5)[1]
    torch.testing.assert_close(above, torch.zeros(5), rtol=0, atol=1e-5)
    guide = linear.with_encoder(exact=False)
    draws, above = above_q(guide, q, 1_000)
    wrong = [guide.reverse("w", w) for w in draws]
    linear.with_encoder(exact=True)
    gaps = torch.stack([kl_divergence(guide.reverse("w", w), r) for w, r in zip(draws, wrong, strict=True)])
    assert_mean(above - gaps, 0.0, within=0.05 * gaps.mean())


@pytest.mark.parametrize(
    ("kind", "factor"), [(AuxiliaryELBO, 0.7), (Trace_ELBO, 0.7), ("implicit", 1.0), ("implicit", 0.5), ("prior", 1.0)]
)
def test_the_loss_is_the_closed_form_or_above_it(kind: Any, factor: float) -> None:
    """Under a Gaussian prior and the implicit one of the same decoder; there, at f = 1, it is below that of the latents.

    With the latents and the noise of that prior the guide is the prior, and its divergence is 0.
    """
    linear = Linear(factor)
    if kind == "prior":
        for parameter in ("latent_mean", "latent_log_scale"):
            linear.guide.fill(parameter, "w", torch.zeros(()))
    q = linear.marginal()
    if kind in ("implicit", "prior"):
        elbo = AuxiliaryELBO({"linear": oracle.exact_encoder(linear.decoder)})
        prior, dense = linear.prior.distribution(SITE), linear.decoder.marginal().expand([KERNELS])
        standard = dist.Normal(torch.zeros(*CHANNELS, LATENT), 1.0).to_event(3)
        of_latents = kl_divergence(linear.guide.latent("w"), standard)
        assert factor < 1 or kind == "prior" or kl_divergence(q, dense).sum() < of_latents
    else:
        elbo, prior = kind(), dist.Normal(0.0, 0.5).expand(SITE.kernel_shape).to_event()
        dense = MultivariateNormal(torch.zeros(WEIGHTS), 0.25 * torch.eye(WEIGHTS))
    divergence = 0.0 if kind == "prior" else kl_divergence(q, dense).sum()
    for exact in (True, False):
        assert_loss(elbo, linear.with_encoder(exact), prior, divergence - expected_data(q), exact)


def test_training_the_reverse_model_closes_the_gap() -> None:
    linear = Linear()
    guide, q = linear.with_encoder(exact=False), linear.marginal()
    optimiser = torch.optim.Adam(guide.density("w").encoder.parameters(), lr=0.02)
    before = above_q(guide, q, 100)[1].mean()
    for _ in range(300):
        optimiser.zero_grad()
        log_q(guide)[1].backward()
        optimiser.step()
    assert 0 < above_q(guide, q, 100)[1].mean() < 0.25 * before


def test_draws_of_the_distribution_are_those_of_the_guide_and_have_qs_moments() -> None:
    """4,000 draws."""
    linear = Linear()
    guide, q = linear.guide, linear.marginal()
    pyro.set_rng_seed(1)
    expected = guide()["w"]
    pyro.set_rng_seed(1)
    assert torch.equal(guide.distribution("w").rsample(), expected)
    drawn = guide.distribution("w").sample((4_000,)).reshape(4_000, KERNELS, WEIGHTS)
    assert not drawn.requires_grad
    standardised = torch.linalg.solve_triangular(q.scale_tril, (drawn - q.mean).unsqueeze(-1), upper=False).squeeze(-1)
    assert_mean(standardised, 0.0, within=0.02, errors=4.5)
    assert_mean(standardised.unsqueeze(-1) * standardised.unsqueeze(-2), torch.eye(WEIGHTS), within=0.03, errors=4.5)
    with pytest.raises(NotImplementedError, match="no density"):
        guide.distribution("w").log_prob(expected)


def test_the_start_is_the_decoded_encoding_with_noise_of_the_wanted_size(tmp_path: Path) -> None:
    prior = DeepWeight(stored(tmp_path))
    _, sites, start = unet()
    guide = started(Latent(sites, relative_scale=0.05, latent_scale=0.2), start, prior)
    for name, site in sites.items():
        density, size = prior.densities[site.group], start[name].square().mean().sqrt()
        shrunk = start[name] * (density.decoder.kernel_scale / size).clamp(max=1)
        mean, log_scale = density.encoder(shrunk.flatten(2))
        q = guide.latent(name).base_dist
        torch.testing.assert_close(q.loc, mean)
        torch.testing.assert_close(q.scale, 0.2 * log_scale.clamp(max=0).exp())
        decoded = guide.decoded(name, mean).base_dist
        torch.testing.assert_close(decoded.loc, density.decoder(mean)[0].reshape(site.shape))
        noise = decoded.scale.square().mean().sqrt()
        torch.testing.assert_close(noise, 0.05 * shrunk.square().mean().sqrt())


def test_the_decoders_stay_as_they_are_and_all_else_moves(tmp_path: Path) -> None:
    network, sites, start = unet(2)
    prior = DeepWeight(stored(tmp_path, 2))
    model, guide = SegmentationModel(network, prior, DiceCrossEntropy()), started(Latent(sites), start, prior)
    elbo = AuxiliaryELBO(prior.encoders())
    svi = SVI(model, guide, JointAdam({"posterior": [guide, model], "encoders": [elbo.encoders]}, 1e-3), elbo)
    image = torch.randn(2, 1, 8, 8)
    (names,) = moved([guide], lambda: [svi.step(image, (image[:, 0] > 0).long()) for _ in range(3)])
    for name, parameter in guide.named_parameters():
        assert (name in names) == (".decoder." not in name) == parameter.requires_grad, name
    assert set(weight_scales(sites, prior, guide)) == {site.group for site in sites.values()}


@pytest.mark.parametrize("members", [0, 2])
def test_a_state_alone_restores_the_posterior_without_prior_or_file(members: int, tmp_path: Path) -> None:
    path = stored(tmp_path, 2)
    _, sites, start = unet(2)

    def build() -> Latent | Ensemble:
        return Ensemble(sites, lambda each: Latent(each, path=path), members) if members else Latent(sites, path=path)

    first = started(build(), start)
    path.unlink()
    state = {
        key: value if isinstance(value, Tensor) else json.loads(json.dumps(value))
        for key, value in first.state_dict().items()
    }
    second = build()
    second.load_state_dict(state)
    second.load_state_dict(state)  # again, into a guide that has the decoders
    assert_same_draws(first, second)


def test_a_state_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    _, sites, start = unet()
    small, large = (DeepWeight(stored(tmp_path, name=str(hidden), hidden=hidden)) for hidden in (8, 9))
    state = started(Latent(sites), start, small).state_dict()
    extra = state["_extra_state"]
    few = dict(list(sites.items())[:2])
    wrong = [started(Latent(sites), start, large), Latent(few), Latent(sites), Latent(sites)]
    extras = [extra, extra, None, {**extra, "densities": [{"family": "deep_weight", "hidden": -1}]}]
    for guide, found in zip(wrong, extras, strict=True):
        with refuses("latent guide", error=CheckpointError):
            guide.load_state_dict({**state, "_extra_state": found})


def test_a_guide_in_another_dtype_leaves_the_prior_in_its_own(tmp_path: Path) -> None:
    _, sites, start = unet(2)
    prior = DeepWeight(stored(tmp_path, 2))
    guide = started(Latent(sites), {name: value.double() for name, value in start.items()}, prior)
    assert all(value.dtype == torch.float64 for value in guide().values())
    assert {parameter.dtype for parameter in prior.parameters()} == {torch.float32}


def test_two_rules_with_a_decoder_each_for_one_group_are_both_kept(tmp_path: Path) -> None:
    one, other = (DeepWeight(stored(tmp_path, 2, name)) for name in ("one", "other"))
    _, sites, start = unet(2)
    guide = started(Latent(sites), start, Assigned([Rule(one, name="up1.*"), Rule(other, kernel_size=3)]))
    for name, site in sites.items():
        kept = (one if name.startswith("up1.") else other).densities[site.group].state_dict()
        assert all(torch.equal(value, kept[key]) for key, value in guide.density(name).state_dict().items())
    twin = Latent(sites)
    twin.load_state_dict(guide.state_dict())
    assert twin.get_extra_state() == guide.get_extra_state()


KERNEL = torch.Size([2, 4, 3, 3, 3])
UNKNOWN = {
    "1x1x1": (WeightSite("head.weight", torch.Size([2, 4, 1, 1, 1]), "1x1x1"), "kernels of one weight"),
    "bias": (WeightSite("head.bias", torch.Size([2]), "bias"), "kernels of one weight"),
    "group": (WeightSite("c.weight", KERNEL, "9"), "group '9'"),
    "edge": (WeightSite("c.weight", torch.Size([2, 4, 5, 5, 5]), "1"), "(5, 5, 5)"),
    "2-D": (WeightSite("c.weight", KERNEL[:-1], "1"), "(3, 3)"),
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_kernels_that_the_decoder_does_not_know_are_refused_with_the_cure(kind: str, tmp_path: Path) -> None:
    (site, token), path = UNKNOWN[kind], stored(tmp_path)
    for named, prior in ((None, DeepWeight(path)), (path, Gaussian())):
        with refuses(site.name, "another guide", "--guide.path", token, error=ConfigError):
            started(Latent({site.name: site}, path=named), {site.name: torch.ones(site.shape)}, prior)


def test_a_prior_without_a_decoder_to_keep_is_refused_with_the_cure() -> None:
    for prior, named in ((Gaussian(), ["Gaussian"]), (example("implicit_prior", "Waves")(), ["Waves", "density"])):
        with refuses("'w'", *named, "--guide.path", error=ConfigError):
            started(Latent({"w": WeightSite("w", KERNEL, "1")}), {"w": torch.ones(KERNEL)}, prior)


def test_impossible_settings_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    _, sites, start = unet()
    for settings in ({"relative_scale": 0.0}, {"latent_scale": -1.0}, {"latent_scale": math.inf}):
        with refuses(*settings, error=ConfigError):
            Latent(sites, **settings)
    with refuses("all 0", error=ConfigError):
        started(Latent(sites, path=stored(tmp_path)), {name: torch.zeros_like(value) for name, value in start.items()})
    with refuses("nowhere", error=CheckpointError):
        started(Latent(sites, path=tmp_path / "nowhere.safetensors"), start)


@pytest.mark.parametrize("factor", [1.0, 30.0])
def test_a_start_much_larger_than_the_decoders_kernels_is_shrunk_to_them(factor: float) -> None:
    network = UNet()
    sites = weight_sites(network)
    guide = started(Latent(sites), {name: factor * network.get_parameter(name) for name in sites}, DeepWeight())
    for name in sites:
        assert guide.latent(name).stddev.max() <= 0.1
        assert guide()[name].square().mean().sqrt() < 3 * guide.density(name).decoder.kernel_scale
