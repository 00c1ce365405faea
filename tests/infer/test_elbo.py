import importlib.util
import math
import warnings
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoDiagonalNormal, AutoNormal
from pyro.nn import PyroModule
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from pyro_dwp.errors import ConfigError
from pyro_dwp.infer import AuxiliaryELBO
from pyro_dwp.priors import DeepWeightPrior, GaussianPrior
from pyro_dwp.train.optim import JointAdam

_spec = importlib.util.spec_from_file_location("linear_gaussian", Path(__file__).with_name("linear_gaussian.py"))
oracle = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(oracle)

LATENT, EDGE, CHANNELS = 2, 2, (3, 2)
WEIGHTS = EDGE**3
SHAPE = (*CHANNELS, EDGE, EDGE, EDGE)
KERNELS = math.prod(CHANNELS)
OBSERVED = torch.tensor(1.5, dtype=torch.float64)


@pytest.fixture(autouse=True)
def _double() -> None:
    torch.set_default_dtype(torch.float64)


def deep_prior(decoder: nn.Module, group: str = "1") -> DeepWeightPrior:
    return DeepWeightPrior(decoder, LATENT, torch.Size([EDGE] * 3), group, torch.zeros(()))


class Program(PyroModule):
    """One layer of weights from a prior, one noisy observation of their sum."""

    def __init__(self, prior: dist.TorchDistribution) -> None:
        super().__init__()
        self.layer = prior.expand(CHANNELS).to_event(2)

    def forward(self) -> None:
        w = pyro.sample("w", self.layer)
        pyro.sample("y", dist.Normal(w.sum(), 0.7), obs=OBSERVED)


class Gaussian(PyroModule):
    def __init__(self, spread: float = 0.3) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.mean = nn.Parameter(0.4 * torch.randn(SHAPE, generator=generator))
        self.log_scale = nn.Parameter(torch.full(SHAPE, math.log(spread)))

    def forward(self) -> Tensor:
        return pyro.sample("w", dist.Normal(self.mean, self.log_scale.exp()).to_event(5))


def repeated(elbo: Trace_ELBO, model: object, guide: object, times: int) -> Tensor:
    with torch.no_grad():
        return torch.tensor([elbo.loss(model, guide) for _ in range(times)])


def agree(one: Tensor, other: Tensor | float, errors: float = 4.0, precision: float = 0.05) -> None:
    """Check that two means are equal within so many standard errors, themselves below `precision` of the value."""
    other = torch.as_tensor(other)
    variance = one.var() / len(one) + (other.var() / len(other) if other.ndim else 0)
    assert variance.sqrt() < precision * one.mean().abs(), f"too noisy: {variance.sqrt()} at {one.mean()}"
    assert (one.mean() - other.mean()).abs() < errors * variance.sqrt(), (one.mean(), other.mean(), variance.sqrt())


@pytest.mark.parametrize("draws", [1, 4])
def test_with_the_true_posterior_as_encoder_the_loss_is_that_of_the_closed_form(draws: int) -> None:
    decoder = oracle.orthogonal_decoder(WEIGHTS, LATENT)
    guide = Gaussian()
    q = MultivariateNormal(
        guide.mean.detach().reshape(KERNELS, WEIGHTS),
        torch.diag_embed((2 * guide.log_scale.detach()).exp().reshape(KERNELS, -1)),
    )
    kl = kl_divergence(q, decoder.marginal().expand([KERNELS])).sum()
    total = Normal(guide.mean.detach().sum(), (2 * guide.log_scale.detach()).exp().sum().sqrt())
    data = Normal(total.mean, 0.7).log_prob(OBSERVED) - 0.5 * (total.stddev / 0.7) ** 2
    elbo = AuxiliaryELBO({"1": oracle.exact_encoder(decoder)}, draws=draws)
    agree(repeated(elbo, Program(deep_prior(decoder)), guide, 3_000), (kl - data).item())


def test_the_loss_is_that_of_traces_elbo_on_the_augmented_program() -> None:
    decoder = oracle.LinearDecoder(WEIGHTS, LATENT)
    encoder, guide = oracle.wrong_encoder(decoder), Gaussian()

    def augmented_model() -> None:
        z = pyro.sample("z", dist.Normal(torch.zeros(*CHANNELS, LATENT), 1.0).to_event(3))
        mean, log_scale = decoder(z)
        w = pyro.sample("w", dist.Normal(mean.reshape(SHAPE), log_scale.exp().reshape(SHAPE)).to_event(5))
        pyro.sample("y", dist.Normal(w.sum(), 0.7), obs=OBSERVED)

    def augmented_guide() -> None:
        w = guide()
        mean, log_scale = encoder(w.reshape(*CHANNELS, WEIGHTS))
        pyro.sample("z", dist.Normal(mean, log_scale.exp()).to_event(3))

    ours = repeated(AuxiliaryELBO({"1": encoder}), Program(deep_prior(decoder)), guide, 3_000)
    agree(ours, repeated(Trace_ELBO(), augmented_model, augmented_guide, 3_000))


def test_latents_as_sites_make_traces_mean_field_elbo_wrong_and_ours_and_trace_elbo_right() -> None:
    """z ~ N(0,1), w|z ~ N(1.1 z, 0.3), q = N(0.7, 0.5), r = N(0.9 w, 0.2): the bound is 0.688, the KL itself 0.609."""

    def decoder(z: Tensor) -> tuple[Tensor, Tensor]:
        return 1.1 * z, torch.full_like(z, math.log(0.3))

    class Encoder(nn.Module):
        def forward(self, w: Tensor) -> tuple[Tensor, Tensor]:
            return 0.9 * w, torch.full_like(w, math.log(0.2))

    copies = (500,)

    def augmented_model() -> None:
        z = pyro.sample("z", dist.Normal(torch.zeros(copies), 1.0).to_event(1))
        pyro.sample("w", dist.Normal(1.1 * z, 0.3).to_event(1))

    def augmented_guide() -> None:
        w = pyro.sample("w", dist.Normal(torch.full(copies, 0.7), 0.5).to_event(1))
        pyro.sample("z", dist.Normal(0.9 * w, 0.2).to_event(1))

    def model() -> None:
        prior = DeepWeightPrior(decoder, 1, torch.Size([1]), "1", torch.zeros(()))
        pyro.sample("w", prior.expand(copies).to_event(1))

    def guide() -> None:
        pyro.sample("w", dist.Normal(torch.full((*copies, 1), 0.7), 0.5).to_event(2))

    def mean_loss(elbo: Trace_ELBO, *programs: object) -> Tensor:
        return repeated(elbo, *programs, times=100) / copies[0]

    marginal = Normal(torch.tensor(0.0), torch.tensor(math.sqrt(1.1**2 + 0.3**2)))
    assert kl_divergence(Normal(torch.tensor(0.7), torch.tensor(0.5)), marginal).item() == pytest.approx(
        0.609, abs=5e-4
    )
    for estimate in (
        mean_loss(AuxiliaryELBO({"1": Encoder()}), model, guide),
        mean_loss(Trace_ELBO(), augmented_model, augmented_guide),
        mean_loss(AuxiliaryELBO(), augmented_model, augmented_guide),
    ):
        assert estimate.mean() == pytest.approx(0.688, abs=4 * estimate.std().item() / 10 + 5e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pyro warns that the order of the sites is not the mean field's
        wrong = mean_loss(TraceMeanField_ELBO(), augmented_model, augmented_guide)
    assert wrong.mean() == pytest.approx(3.41, abs=4 * wrong.std().item() / 10 + 5e-3)


def test_a_gaussian_prior_is_scored_in_closed_form_as_by_traces_mean_field_elbo() -> None:
    model, guide = Program(GaussianPrior(torch.tensor(0.5), torch.Size([EDGE] * 3))), Gaussian()
    losses = []
    for elbo in (AuxiliaryELBO(), TraceMeanField_ELBO()):
        pyro.set_rng_seed(3)
        losses.append(elbo.loss(model, guide))
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


def test_a_random_subset_of_kernels_gives_the_same_loss_in_mean() -> None:
    decoder = oracle.LinearDecoder(WEIGHTS, LATENT)
    model, guide, encoders = Program(deep_prior(decoder)), Gaussian(), {"1": oracle.wrong_encoder(decoder)}
    full = repeated(AuxiliaryELBO(encoders), model, guide, 2_000)
    subset = repeated(AuxiliaryELBO(encoders, kernels_per_group=2), model, guide, 6_000)
    agree(full, subset)
    assert subset.std() > full.std()


def test_two_layers_of_one_group_are_scored_as_one_set_of_kernels() -> None:
    decoder = oracle.orthogonal_decoder(WEIGHTS, LATENT)
    layer = deep_prior(decoder).expand(CHANNELS).to_event(2)

    def model() -> None:
        pyro.sample("a", layer)
        pyro.sample("b", layer)

    def guide() -> None:
        for name in ("a", "b"):
            pyro.sample(name, dist.Normal(torch.zeros(SHAPE), 0.3).to_event(5))

    q = MultivariateNormal(torch.zeros(WEIGHTS), 0.09 * torch.eye(WEIGHTS))
    kl = 2 * KERNELS * kl_divergence(q, decoder.marginal())
    agree(repeated(AuxiliaryELBO({"1": oracle.exact_encoder(decoder)}), model, guide, 2_000), kl.item())


@pytest.mark.parametrize("particles", [1, 4])
def test_the_loss_is_minus_data_plus_weighted_kl_and_the_kl_the_sum_of_its_parts(particles: int) -> None:
    decoder = oracle.LinearDecoder(WEIGHTS, LATENT)
    elbo = AuxiliaryELBO({"1": oracle.wrong_encoder(decoder)}, data_scale=5.0, kl_weight=0.1, num_particles=particles)
    loss = elbo.loss(Program(deep_prior(decoder)), Gaussian())
    parts = elbo.parts
    assert loss == pytest.approx(-parts["data"] + 0.1 * parts["kl"], rel=1e-12)
    terms = parts["kl_explicit"] - parts["entropy"] + parts["kl_latent"] + parts["reconstruction"]
    assert parts["kl"] == pytest.approx(terms, rel=1e-12)


def test_data_scale_multiplies_the_likelihood_alone() -> None:
    model, guide = Program(GaussianPrior(torch.tensor(0.5), torch.Size([EDGE] * 3))), Gaussian()
    parts = []
    for scale in (1.0, 5.0):
        elbo = AuxiliaryELBO(data_scale=scale)
        pyro.set_rng_seed(3)
        elbo.loss(model, guide)
        parts.append(elbo.parts)
    assert parts[1]["data"] == pytest.approx(5 * parts[0]["data"], rel=1e-12)
    assert parts[1]["kl"] == pytest.approx(parts[0]["kl"], rel=1e-12)


@pytest.mark.parametrize("autoguide", [AutoNormal, AutoDiagonalNormal])
def test_pyros_autoguides_work_with_an_implicit_prior(autoguide: type) -> None:
    decoder = oracle.orthogonal_decoder(WEIGHTS, LATENT)
    model = Program(deep_prior(decoder))
    guide = autoguide(
        model, init_scale=0.3, init_loc_fn=pyro.infer.autoguide.init_to_value(values={"w": torch.zeros(SHAPE)})
    )
    guide()
    q = MultivariateNormal(torch.zeros(WEIGHTS), 0.09 * torch.eye(WEIGHTS))
    kl = KERNELS * kl_divergence(q, decoder.marginal())
    data = Normal(0.0, 0.7).log_prob(OBSERVED) - 0.5 * 0.09 * KERNELS * WEIGHTS / 0.49
    agree(repeated(AuxiliaryELBO({"1": oracle.exact_encoder(decoder)}), model, guide, 3_000), (kl - data).item())


def test_svi_trains_guide_and_encoder_and_leaves_the_frozen_decoder() -> None:
    decoder = oracle.LinearDecoder(WEIGHTS, LATENT).requires_grad_(False)
    before = decoder.matrix.clone()
    model, guide = Program(deep_prior(decoder)), Gaussian()
    elbo = AuxiliaryELBO({"1": oracle.wrong_encoder(decoder)})
    encoder = elbo.encoders("1")
    start = [p.detach().clone() for p in (guide.mean, guide.log_scale, encoder.gain, encoder.log_scale)]
    svi = SVI(model, guide, JointAdam({"theta": [guide], "psi": [elbo.encoders]}, {"theta": 0.01, "psi": 0.001}), elbo)
    first = sum(svi.step() for _ in range(20))
    for _ in range(200):
        svi.step()
    assert sum(svi.step() for _ in range(20)) < first
    for now, then in zip((guide.mean, guide.log_scale, encoder.gain, encoder.log_scale), start, strict=True):
        assert not torch.equal(now, then)
    assert torch.equal(decoder.matrix, before)


def test_training_the_encoder_tightens_the_bound_to_the_closed_form() -> None:
    decoder = oracle.orthogonal_decoder(WEIGHTS, LATENT).requires_grad_(False)
    model, guide = Program(deep_prior(decoder)), Gaussian().requires_grad_(False)
    exact = repeated(AuxiliaryELBO({"1": oracle.exact_encoder(decoder)}), model, guide, 1_000).mean()
    elbo = AuxiliaryELBO({"1": oracle.wrong_encoder(decoder)})
    gap_before = repeated(elbo, model, guide, 1_000).mean() - exact
    svi = SVI(model, guide, JointAdam({"theta": [guide], "psi": [elbo.encoders]}, 0.01), elbo)
    for _ in range(1_000):
        svi.step()
    gap_after = repeated(elbo, model, guide, 1_000).mean() - exact
    assert gap_before > 0.5
    assert abs(gap_after) < 0.15 * gap_before


def test_svi_with_a_gaussian_prior_finds_the_conjugate_posterior() -> None:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(40, 3, generator=generator)
    y = x @ torch.tensor([1.0, -0.5, 0.2]) + 0.3 * torch.randn(40, generator=generator)
    precision = x.T @ x / 0.3**2 + torch.eye(3) / 0.5**2
    expected = torch.linalg.solve(precision, x.T @ y / 0.3**2)

    def model() -> None:
        w = pyro.sample("w", GaussianPrior(torch.tensor(0.5), torch.Size([3])))
        pyro.sample("y", dist.Normal(x @ w, 0.3).to_event(1), obs=y)

    class Full(PyroModule):
        def __init__(self) -> None:
            super().__init__()
            self.mean, self.root = nn.Parameter(torch.zeros(3)), nn.Parameter(0.1 * torch.eye(3))

        def forward(self) -> None:
            pyro.sample("w", dist.MultivariateNormal(self.mean, scale_tril=self.root.tril()))

    guide = Full()
    optim = JointAdam({"theta": [guide]}, {"theta": 0.02})
    svi = SVI(model, guide, optim, AuxiliaryELBO(num_particles=2))
    for step in range(1_500):
        optim.optimiser.param_groups[0]["lr"] = 0.02 * (1 - step / 1_500)
        svi.step()
    covariance = (guide.root.tril() @ guide.root.tril().T).detach()
    expected_covariance = torch.linalg.inv(precision)
    scale = expected_covariance.diagonal().sqrt()
    assert ((guide.mean.detach() - expected).abs() < 0.1 * scale).all()
    torch.testing.assert_close(covariance.diagonal(), expected_covariance.diagonal(), rtol=0.1, atol=0)


def test_an_implicit_prior_without_encoder_is_refused_with_the_cure() -> None:
    model = Program(deep_prior(oracle.LinearDecoder(WEIGHTS, LATENT)))
    with pytest.raises(ConfigError, match=r"group '1'.*encoders\(\)"):
        AuxiliaryELBO().loss(model, Gaussian())


def test_a_guide_without_reparametrisation_is_refused() -> None:
    def model() -> None:
        pyro.sample("n", dist.Poisson(2.0))

    with pytest.raises(ConfigError, match="rsample"):
        AuxiliaryELBO().loss(model, model)


def test_impossible_settings_are_refused() -> None:
    for setting in ({"draws": 0}, {"kernels_per_group": 0}, {"kl_weight": -1.0}):
        with pytest.raises(ConfigError):
            AuxiliaryELBO(**setting)
