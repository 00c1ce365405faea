import importlib.util
import math
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Predictive, Trace_ELBO
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from guides import Ensemble, Latent
from models.segmentation import SegmentationModel
from pyro_dwp.errors import CheckpointError, ConfigError
from pyro_dwp.infer import AuxiliaryELBO, weight_scales
from pyro_dwp.likelihoods import Categorical, DiceCrossEntropy
from pyro_dwp.nn import UNet
from pyro_dwp.priors import DeepWeight, DeepWeightDensity, DeepWeightPrior, Gaussian
from pyro_dwp.priors.store import save_prior
from pyro_dwp.sites import WeightSite, weight_sites
from pyro_dwp.train import draw_network
from pyro_dwp.train.optim import JointAdam

_spec = importlib.util.spec_from_file_location(
    "linear_gaussian", Path(__file__).parents[1] / "infer" / "linear_gaussian.py"
)
oracle = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(oracle)

LATENT, EDGE, CHANNELS = 2, 2, (3, 2)
WEIGHTS = EDGE**3
SITE = WeightSite("w", torch.Size([*CHANNELS, EDGE, EDGE, EDGE]), "1")
KERNELS = math.prod(CHANNELS)
OBSERVED, NOISE = 1.5, 10.0


def stored(folder: Path, ndim: int = 3, name: str = "prior") -> str:
    path = folder / f"{name}-{ndim}.safetensors"
    groups = sorted(set(UNet(channels=(2, 4), ndim=ndim).kernel_groups().values()))
    densities = {group: DeepWeightDensity((3,) * ndim, latent=2, hidden=8, kernel_scale=0.1) for group in groups}
    save_prior(path, densities, {})
    return str(path)


def network_and_start(ndim: int = 3) -> tuple[UNet, dict[str, WeightSite], dict[str, Tensor]]:
    network = UNet(channels=(2, 4), ndim=ndim)
    sites = weight_sites(network)
    return network, sites, {name: network.get_parameter(name).detach() for name in sites}


class Linear:
    """A latent guide over one site with a linear decoder, for which q(w) is Gaussian; in float64.

    Args:
        folder: for the stored prior whose coders are then replaced.
        factor: f.
    """

    def __init__(self, folder: Path, factor: float = 0.7) -> None:
        torch.set_default_dtype(torch.float64)
        path = folder / "linear.safetensors"
        save_prior(path, {"1": DeepWeightDensity(SITE.kernel_shape, latent=LATENT, hidden=2)}, {})
        self.guide = Latent({"w": SITE}, {"w": torch.randn(SITE.shape)}, path=str(path))
        self.decoder = oracle.orthogonal_decoder(WEIGHTS, LATENT).requires_grad_(False)
        self.guide._decoders["1"] = self.decoder
        with torch.no_grad():
            self.guide.parameter("latent_mean", "w").copy_(torch.randn(*CHANNELS, LATENT))
            self.guide.parameter("latent_log_scale", "w").copy_(0.3 * torch.randn(*CHANNELS, LATENT) - 1)
            self.guide.parameter("log_noise", "w").fill_(math.log(factor))
        self.factor = factor

    def with_encoder(self, exact: bool) -> Latent:
        """Set the encoder that makes r exact, the likelihood of z given w, or a wrong one."""
        square = self.decoder.matrix.square().sum(0)
        gain = self.decoder.matrix.T / square[:, None]
        log_scale = math.log(self.factor * self.decoder.scale) - 0.5 * square.log()
        self.guide.reverse_1 = (
            oracle.LinearEncoder(gain, self.decoder.shift, log_scale)
            if exact
            else oracle.LinearEncoder(0.8 * gain, self.decoder.shift, log_scale + 0.3, offset=0.3)
        )
        return self.guide

    def marginal(self) -> MultivariateNormal:
        """Return q(w) of the kernels, batch shape (KERNELS,)."""
        mean = self.guide.parameter("latent_mean", "w").detach().flatten(0, 1)
        variance = self.guide.parameter("latent_log_scale", "w").detach().flatten(0, 1).mul(2).exp()
        matrix, noise = self.decoder.matrix, (self.factor * self.decoder.scale) ** 2
        covariance = matrix @ torch.diag_embed(variance) @ matrix.T + noise * torch.eye(WEIGHTS)
        return MultivariateNormal(mean @ matrix.T + self.decoder.shift, covariance)


@pytest.fixture
def linear(tmp_path: Path) -> Linear:
    return Linear(tmp_path)


def program(prior: dist.TorchDistribution) -> None:
    w = pyro.sample("w", prior.expand(CHANNELS).to_event(2))
    pyro.sample("y", dist.Normal(w.sum(), NOISE), obs=torch.tensor(OBSERVED))


def expected_data(q: MultivariateNormal) -> Tensor:
    """Return E_q log p(y | w) of `program`."""
    variance = q.covariance_matrix.sum()
    return Normal(q.mean.sum(), NOISE).log_prob(torch.tensor(OBSERVED)) - 0.5 * variance / NOISE**2


def losses(elbo: Trace_ELBO, guide: Latent, prior: dist.TorchDistribution, times: int = 500) -> Tensor:
    with torch.no_grad(), pyro.validation_enabled(False):
        return torch.tensor([elbo.loss(program, guide, prior) for _ in range(times)])


def excess(found: Tensor, expected: Tensor) -> tuple[float, float]:
    """Return how far the mean is above what is expected, and its standard error."""
    return float(found.mean() - expected), float(found.std() / len(found) ** 0.5)


def log_q(guide: Latent) -> tuple[Tensor, Tensor]:
    """Return a draw of w and its log q(z) + log q(w|z) − log r(z|w)."""
    trace = pyro.poutine.trace(guide).get_trace()
    trace.compute_log_prob()
    names = {name for name, node in trace.nodes.items() if node["type"] == "sample"}
    assert names == {"w", "w.latent", "w.reverse"}
    return trace.nodes["w"]["value"], sum(trace.nodes[name]["log_prob_sum"] for name in names)


def test_with_qs_own_posterior_as_reverse_model_every_draw_has_the_exact_log_density(linear: Linear) -> None:
    guide, q = linear.with_encoder(exact=True), linear.marginal()
    for _ in range(5):
        w, found = log_q(guide)
        torch.testing.assert_close(found, q.log_prob(w.reshape(KERNELS, WEIGHTS)).sum())


def test_any_other_reverse_model_is_above_by_its_divergence_from_that_posterior(linear: Linear) -> None:
    """1,000 draws: the mean of the difference is KL(q(z|w) ‖ r(z|w)), averaged over w, within 4 standard errors (5 %)."""
    guide, q = linear.with_encoder(exact=False), linear.marginal()
    pairs = [log_q(guide) for _ in range(1_000)]
    above = torch.stack([found - q.log_prob(w.reshape(KERNELS, WEIGHTS)).sum() for w, found in pairs])
    wrong = [guide.reverse("w", w) for w, _ in pairs]
    linear.with_encoder(exact=True)
    gaps = torch.stack([kl_divergence(guide.reverse("w", w), r) for (w, _), r in zip(pairs, wrong, strict=True)])
    error = (above - gaps).std() / 1_000**0.5
    assert (above.mean() - gaps.mean()).abs() < 4 * error
    assert error < 0.05 * gaps.mean()


@pytest.mark.parametrize("elbo", [AuxiliaryELBO, Trace_ELBO])
def test_under_a_gaussian_prior_the_loss_is_the_closed_form_or_above_it(linear: Linear, elbo: type[Trace_ELBO]) -> None:
    """500 draws; divergence 38 nats, standard error below 0.5, the wrong reverse model's gap over 6 of them."""
    q = linear.marginal()
    kl = kl_divergence(q, MultivariateNormal(torch.zeros(WEIGHTS), 0.25 * torch.eye(WEIGHTS))).sum()
    prior = dist.Normal(0.0, 0.5).expand(SITE.kernel_shape).to_event()
    for exact in (True, False):
        above, error = excess(losses(elbo(), linear.with_encoder(exact), prior), kl - expected_data(q))
        assert error < 0.5
        assert abs(above) < 4 * error if exact else above > 6 * error


@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_under_the_deep_weight_prior_of_the_same_decoder_the_loss_is_the_closed_form_or_above_it(
    tmp_path: Path, factor: float
) -> None:
    """500 draws; divergence 6 and 20 nats, standard error below 0.5. At f = 1 it is also below that of the latents."""
    linear = Linear(tmp_path, factor)
    q = linear.marginal()
    kl = kl_divergence(q, linear.decoder.marginal().expand([KERNELS])).sum()
    prior = DeepWeightPrior(linear.decoder, LATENT, SITE.kernel_shape, "1", torch.zeros(()))
    elbo = AuxiliaryELBO({"1": oracle.exact_encoder(linear.decoder)})
    for exact in (True, False):
        above, error = excess(losses(elbo, linear.with_encoder(exact), prior), kl - expected_data(q))
        assert error < 0.5
        assert abs(above) < 4 * error if exact else above > 6 * error
    of_latents = kl_divergence(linear.guide.latent("w"), dist.Normal(torch.zeros(*CHANNELS, LATENT), 1.0).to_event(3))
    assert factor < 1 or kl < of_latents


def test_with_the_priors_latents_and_noise_the_guide_is_the_prior_and_its_divergence_nought(tmp_path: Path) -> None:
    """500 draws; standard error below 0.3 nats for the whole site."""
    linear = Linear(tmp_path, factor=1.0)
    with torch.no_grad():
        linear.guide.parameter("latent_mean", "w").zero_()
        linear.guide.parameter("latent_log_scale", "w").zero_()
    prior = DeepWeightPrior(linear.decoder, LATENT, SITE.kernel_shape, "1", torch.zeros(()))
    elbo = AuxiliaryELBO({"1": oracle.exact_encoder(linear.decoder)})
    kl = losses(elbo, linear.with_encoder(exact=True), prior) + expected_data(linear.marginal())
    above, error = excess(kl, torch.zeros(()))
    assert abs(above) < 4 * error
    assert error < 0.3


def test_training_the_reverse_model_closes_the_gap(linear: Linear) -> None:
    guide, q = linear.with_encoder(exact=False), linear.marginal()
    optimiser = torch.optim.Adam(guide.reverse_1.parameters(), lr=0.02)

    def gap(times: int) -> float:
        pairs = [log_q(guide) for _ in range(times)]
        above = [(found - q.log_prob(w.reshape(KERNELS, WEIGHTS)).sum()).item() for w, found in pairs]
        return sum(above) / times

    before = gap(100)
    for _ in range(300):
        optimiser.zero_grad()
        log_q(guide)[1].backward()
        optimiser.step()
    assert 0 < gap(100) < 0.25 * before


def test_draws_of_the_distribution_are_those_of_the_guide_and_have_qs_moments(linear: Linear) -> None:
    """4,000 draws; means within 4.5 standard errors, covariances within 4.5 of a Gaussian's."""
    guide, q = linear.guide, linear.marginal()
    pyro.set_rng_seed(1)
    expected = guide()["w"]
    pyro.set_rng_seed(1)
    assert torch.equal(guide.distribution("w").rsample(), expected)
    drawn = guide.distribution("w").sample((4_000,)).reshape(4_000, KERNELS, WEIGHTS)
    assert not drawn.requires_grad
    standardised = torch.linalg.solve_triangular(q.scale_tril, (drawn - q.mean).unsqueeze(-1), upper=False).squeeze(-1)
    assert (standardised.mean(0).abs() * 4_000**0.5).max() < 4.5
    eye = torch.eye(WEIGHTS)
    covariance = torch.einsum("nki,nkj->kij", standardised, standardised) / 4_000
    assert ((covariance - eye) / ((1 + eye) / 4_000).sqrt()).abs().max() < 4.5
    with pytest.raises(NotImplementedError, match="no density"):
        guide.distribution("w").log_prob(expected)


def test_the_start_is_the_decoded_encoding_with_noise_of_the_wanted_size(tmp_path: Path) -> None:
    path = stored(tmp_path)
    _, sites, start = network_and_start()
    guide = Latent(sites, start, path=path, relative_scale=0.05, latent_scale=0.2)
    densities = DeepWeight(path).densities
    for name, site in sites.items():
        size = start[name].square().mean().sqrt()
        shrunk = start[name] * (densities[site.group].decoder.kernel_scale / size).clamp(max=1)
        mean, log_scale = densities[site.group].encoder(shrunk.flatten(2))
        q = guide.latent(name).base_dist
        torch.testing.assert_close(q.loc, mean)
        torch.testing.assert_close(q.scale, 0.2 * log_scale.clamp(max=0).exp())
        decoded = guide.decoded(name, mean).base_dist
        torch.testing.assert_close(decoded.loc, densities[site.group].decoder(mean)[0].reshape(site.shape))
        noise = decoded.scale.square().mean().sqrt()
        torch.testing.assert_close(noise, 0.05 * shrunk.square().mean().sqrt())


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("kind", ["gaussian", "deep_weight"])
def test_three_steps_of_svi_move_every_parameter_but_the_decoders(kind: str, ndim: int, tmp_path: Path) -> None:
    network, sites, start = network_and_start(ndim)
    path = stored(tmp_path, ndim)
    prior = Gaussian() if kind == "gaussian" else DeepWeight(path)
    model, guide = SegmentationModel(network, prior, DiceCrossEntropy()), Latent(sites, start, path=path)
    elbo = AuxiliaryELBO(prior.encoders())
    svi = SVI(model, guide, JointAdam({"theta": [guide, model], "psi": [elbo.encoders]}, 1e-3), elbo)
    image = torch.randn(2, 1, *[8] * ndim)
    label = (image[:, 0] > 0).long()
    frozen = [p for decoder in guide._decoders.values() for p in decoder.parameters()]
    before = [p.detach().clone() for p in (*guide.parameters(), *frozen)]
    for _ in range(3):
        assert math.isfinite(svi.step(image, label))
    after = [*guide.parameters(), *frozen]
    moved = [not torch.equal(old, new) for old, new in zip(before, after, strict=True)]
    assert all(moved[: -len(frozen)])
    assert not any(moved[-len(frozen) :])
    loss = elbo.differentiable_loss(model, guide, image, label)
    assert all(g.isfinite().all() for g in torch.autograd.grad(loss, list(guide.parameters())))
    assert draw_network(model.network, guide)(image).isfinite().all()
    drawn = Predictive(model, guide=guide, num_samples=2, return_sites=("_RETURN",))(image)["_RETURN"]
    assert drawn.shape == (2, 2, 2, *image.shape[2:])
    assert set(weight_scales(sites, prior, guide)) == {site.group for site in sites.values()}


def test_a_state_without_the_decoder_restores_the_posterior_from_the_same_file(tmp_path: Path) -> None:
    path = stored(tmp_path)
    _, sites, start = network_and_start()
    first = Latent(sites, start, path=path)
    second = Latent(sites, {name: torch.randn_like(value) for name, value in start.items()}, path=path)
    state = first.state_dict()
    assert not any("decoder" in key for key in state)
    second.load_state_dict(state)
    draws = []
    for guide in (first, second):
        pyro.set_rng_seed(1)
        draws.append(guide())
    assert all(torch.equal(draws[0][name], draws[1][name]) for name in sites)


def test_a_state_of_another_decoder_is_refused(tmp_path: Path) -> None:
    _, sites, start = network_and_start()
    first, second = (Latent(sites, start, path=stored(tmp_path, name=name)) for name in ("one", "other"))
    with pytest.raises(CheckpointError, match=r"other-3\.safetensors.*--guide\.path"):
        second.load_state_dict(first.state_dict())


def test_the_guide_moves_to_another_dtype_with_its_decoders(tmp_path: Path) -> None:
    _, sites, start = network_and_start(2)
    guide = Latent(sites, start, path=stored(tmp_path, 2)).double()
    assert all(value.dtype == torch.float64 for value in guide().values())
    assert guide.fingerprint.dtype == torch.int64
    doubled = Latent(sites, {name: value.double() for name, value in start.items()}, path=stored(tmp_path, 2))
    assert all(value.dtype == torch.float64 for value in doubled().values())


def test_members_of_an_ensemble_can_be_latent_guides(tmp_path: Path) -> None:
    network, sites, start = network_and_start(2)
    path = stored(tmp_path, 2)
    model = SegmentationModel(network, Gaussian(), Categorical())
    guide = Ensemble(sites, start, guide=lambda *given: Latent(*given, path=path), members=2)
    image = torch.randn(1, 1, 8, 8)
    loss = AuxiliaryELBO().differentiable_loss(model, guide, image, (image[:, 0] > 0).long())
    loss.backward()
    assert loss.isfinite()
    assert guide.distribution("init_conv.weight").sample().shape == sites["init_conv.weight"].shape


@pytest.mark.parametrize(
    ("site", "message"),
    [
        (WeightSite("head.weight", torch.Size([2, 4, 1, 1, 1]), "1x1x1"), "kernels of one weight"),
        (WeightSite("head.bias", torch.Size([2]), "bias"), "kernels of one weight"),
        (WeightSite("c.weight", torch.Size([2, 4, 3, 3, 3]), "9"), "group '9'"),
        (WeightSite("c.weight", torch.Size([2, 4, 5, 5, 5]), "1"), r"\(5, 5, 5\)"),
        (WeightSite("c.weight", torch.Size([2, 4, 3, 3]), "1"), r"\(3, 3\)"),
    ],
    ids=["1x1x1", "bias", "group", "edge", "2-D"],
)
def test_kernels_that_the_decoder_does_not_know_are_refused_with_the_cure(
    site: WeightSite, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=f"latent guide.*'{site.name}'.*another guide.*{message}"):
        Latent({site.name: site}, {site.name: torch.ones(site.shape)}, path=stored(tmp_path))


def test_impossible_settings_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    _, sites, start = network_and_start()
    path = stored(tmp_path)
    for settings in ({"relative_scale": 0.0}, {"latent_scale": -1.0}):
        with pytest.raises(ConfigError, match=next(iter(settings))):
            Latent(sites, start, path=path, **settings)
    with pytest.raises(ConfigError, match="all 0"):
        Latent(sites, {name: torch.zeros_like(value) for name, value in start.items()}, path=path)
    with pytest.raises(CheckpointError, match="nowhere"):
        Latent(sites, start, path=str(tmp_path / "nowhere.safetensors"))


def test_the_guide_warns_of_nothing_outside_of_inference(tmp_path: Path) -> None:
    _, sites, start = network_and_start(2)
    drawn = Latent(sites, start, path=stored(tmp_path, 2))()
    assert all(isinstance(value, Tensor) and not isinstance(value, nn.Parameter) for value in drawn.values())


@pytest.mark.parametrize("factor", [1.0, 30.0])
def test_a_start_much_larger_than_the_decoders_kernels_is_shrunk_to_them_and_infers(factor: float) -> None:
    network = UNet()
    sites = weight_sites(network)
    start = {name: factor * network.get_parameter(name).detach() for name in sites}
    guide = Latent(sites, start)
    for name, site in sites.items():
        size = guide._decoders[site.group].kernel_scale
        assert guide.latent(name).stddev.max() <= 0.1
        assert guide().get(name).square().mean().sqrt() < 3 * size


def test_a_guide_of_all_zero_weights_is_refused() -> None:
    sites = {"down1.conv_1.weight": weight_sites(UNet())["down1.conv_1.weight"]}
    with pytest.raises(ConfigError, match="all 0"):
        Latent(sites, {"down1.conv_1.weight": torch.zeros(32, 16, 3, 3, 3)})
