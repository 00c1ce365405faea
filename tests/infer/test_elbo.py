import math
import warnings
from collections.abc import Callable

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoDiagonalNormal, AutoNormal
from pyro.nn import PyroModule
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from pyro_dwp.errors import ConfigError
from pyro_dwp.infer import AuxiliaryELBO
from pyro_dwp.priors import GaussianPrior
from pyro_dwp.train import SVI, JointAdam
from tests.helpers import linear_gaussian as oracle
from tests.helpers.monte_carlo import assert_mean
from tests.helpers.refusal import refuses

LATENT, EDGE, CHANNELS, SPREAD = 2, 2, (3, 2), 0.3
WEIGHTS = EDGE**3
SHAPE = (*CHANNELS, EDGE, EDGE, EDGE)
KERNELS = math.prod(CHANNELS)
OBSERVED = torch.tensor(1.5, dtype=torch.float64)
DECODER, ORTHOGONAL = oracle.LinearDecoder(WEIGHTS, LATENT), oracle.orthogonal_decoder(WEIGHTS, LATENT)
WRONG, EXACT = oracle.wrong_encoder(DECODER), oracle.exact_encoder(ORTHOGONAL)


def implicit(decoder: oracle.LinearDecoder, group: str = "1") -> oracle.LinearPrior:
    return oracle.LinearPrior(decoder, (EDGE,) * 3, group)


class Program(PyroModule):
    """One layer of weights from a prior, one noisy observation of their sum, which counts so many times."""

    def __init__(self, prior: dist.TorchDistribution, times: int = 1) -> None:
        super().__init__()
        self.layer, self.times = prior.expand(CHANNELS).to_event(2), times

    def forward(self) -> None:
        w = pyro.sample("w", self.layer)
        with pyro.plate("items", self.times, subsample=torch.arange(1)):
            pyro.sample("y", dist.Normal(w.sum(), 0.7), obs=OBSERVED[None])


class Gaussian(PyroModule):
    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Parameter(0.4 * torch.randn(SHAPE, generator=torch.Generator().manual_seed(5)))
        self.log_scale = nn.Parameter(torch.full(SHAPE, math.log(SPREAD)))

    def forward(self) -> Tensor:
        return pyro.sample("w", dist.Normal(self.mean, self.log_scale.exp()).to_event(5))


def repeated(elbo: Trace_ELBO, model: object, guide: object, times: int) -> Tensor:
    with torch.no_grad(), pyro.validation_enabled(False):
        return torch.tensor([elbo.loss(model, guide) for _ in range(times)])


def agree(one: Tensor, other: Tensor) -> None:
    """Check that two means, or a mean and a value, are equal within 4 standard errors, themselves below 5 % of the value."""
    differences = one[: len(other)] - other[: len(one)] if other.ndim else one - other
    assert_mean(differences, 0.0, within=0.05 * one.mean().abs())


@pytest.mark.parametrize(("kind", "draws"), [(Gaussian, 1), (Gaussian, 4), (AutoNormal, 1), (AutoDiagonalNormal, 1)])
def test_with_the_true_posterior_as_encoder_the_loss_is_that_of_the_closed_form(kind: type, draws: int) -> None:
    model, guide, mean = Program(implicit(ORTHOGONAL)), Gaussian(), Gaussian().mean.detach()
    if kind is not Gaussian:
        guide = kind(model, init_scale=SPREAD, init_loc_fn=pyro.infer.autoguide.init_to_value(values={"w": mean}))
        guide()
    q = MultivariateNormal(mean.reshape(KERNELS, WEIGHTS), SPREAD**2 * torch.eye(WEIGHTS))
    kl = kl_divergence(q, ORTHOGONAL.marginal().expand([KERNELS])).sum()
    data = Normal(mean.sum(), 0.7).log_prob(OBSERVED) - 0.5 * mean.numel() * (SPREAD / 0.7) ** 2
    elbo = AuxiliaryELBO({"1": EXACT}, draws=draws)
    agree(repeated(elbo, model, guide, 500), kl - data)


def test_the_loss_is_that_of_traces_elbo_on_the_augmented_program_and_not_traces_mean_field_elbos() -> None:
    guide = Gaussian()

    def augmented_model() -> None:
        z = pyro.sample("z", dist.Normal(torch.zeros(*CHANNELS, LATENT), 1.0).to_event(3))
        mean, log_scale = DECODER(z)
        w = pyro.sample("w", dist.Normal(mean.reshape(SHAPE), log_scale.exp().reshape(SHAPE)).to_event(5))
        pyro.sample("y", dist.Normal(w.sum(), 0.7), obs=OBSERVED)

    def augmented_guide() -> None:
        w = guide()
        mean, log_scale = WRONG(w.reshape(*CHANNELS, WEIGHTS))
        pyro.sample("z", dist.Normal(mean, log_scale.exp()).to_event(3))

    augmented = augmented_model, augmented_guide
    ours = repeated(AuxiliaryELBO({"1": WRONG}), Program(implicit(DECODER)), guide, 1_500)
    for elbo in (Trace_ELBO(), AuxiliaryELBO()):
        agree(ours, repeated(elbo, *augmented, 1_500))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pyro warns that the order of the sites is not the mean field's
        wrong = repeated(TraceMeanField_ELBO(), *augmented, 1_500)
    assert (wrong.mean() - ours.mean()).abs() > 8 * ((wrong.var() + ours.var()) / 1_500).sqrt()


def test_a_gaussian_prior_is_scored_in_closed_form_as_by_traces_mean_field_elbo() -> None:
    model, guide = Program(GaussianPrior(torch.tensor(0.5), torch.Size([EDGE] * 3))), Gaussian()
    losses = []
    for elbo in (AuxiliaryELBO(), TraceMeanField_ELBO()):
        pyro.set_rng_seed(3)
        losses.append(elbo.loss(model, guide))
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


def test_a_random_subset_of_kernels_gives_the_same_loss_in_mean() -> None:
    model, guide, encoders = Program(implicit(DECODER)), Gaussian(), {"1": WRONG}
    full = repeated(AuxiliaryELBO(encoders), model, guide, 500)
    subset = repeated(AuxiliaryELBO(encoders, kernels_per_group=2), model, guide, 1_000)
    agree(full, subset)
    assert subset.std() > full.std()


def layers(*priors: dist.TorchDistribution) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return a model with a layer from each prior, and a guide of N(0, 0.3²) over all of them."""

    def model() -> None:
        for number, prior in enumerate(priors):
            pyro.sample(f"w{number}", prior.expand(CHANNELS).to_event(2))

    def guide() -> None:
        for number in range(len(priors)):
            pyro.sample(f"w{number}", dist.Normal(torch.zeros(SHAPE), 0.3).to_event(5))

    return model, guide


@pytest.mark.parametrize("group", ["1", "a.b/c", "training"])
def test_two_layers_of_one_group_are_scored_as_one_set_of_kernels(group: str) -> None:
    q = MultivariateNormal(torch.zeros(WEIGHTS), 0.09 * torch.eye(WEIGHTS))
    kl = 2 * KERNELS * kl_divergence(q, ORTHOGONAL.marginal())
    priors = [implicit(ORTHOGONAL, group) for _ in range(2)]
    agree(repeated(AuxiliaryELBO({group: EXACT}), *layers(*priors), 400), kl)


@pytest.mark.parametrize("count", [None, 7])
def test_two_priors_of_one_group_are_each_scored_by_themselves(count: int | None) -> None:
    one, other = ORTHOGONAL, oracle.orthogonal_decoder(WEIGHTS, LATENT)
    with torch.no_grad():
        other.shift.add_(0.5)
    apart = AuxiliaryELBO({"1": EXACT, "2": EXACT})
    expected = repeated(apart, *layers(implicit(one), implicit(other, "2"), implicit(one)), 400)
    together = AuxiliaryELBO({"1": EXACT}, kernels_per_group=count)
    agree(repeated(together, *layers(implicit(one), implicit(other), implicit(one)), 400), expected)
    assert repeated(apart, *layers(*[implicit(one)] * 3), 100).mean() < 0.8 * expected.mean()


@pytest.mark.parametrize("particles", [1, 4])
def test_the_loss_is_minus_data_plus_weighted_kl_and_the_kl_the_sum_of_its_parts(particles: int) -> None:
    elbo = AuxiliaryELBO({"1": WRONG}, kl_weight=0.1, num_particles=particles)
    loss = elbo.loss(Program(implicit(DECODER), times=5), Gaussian())
    parts = elbo.parts
    assert parts["kl_weight"] == pytest.approx(0.1)
    assert loss == pytest.approx(-parts["data"] + 0.1 * parts["kl"], rel=1e-12)
    terms = parts["kl_explicit"] - parts["entropy"] + parts["kl_latent"] + parts["reconstruction"]
    assert parts["kl"] == pytest.approx(terms, rel=1e-12)


@pytest.mark.parametrize("way", ["SVI.step", "differentiable_loss"])
def test_the_kl_weight_warms_up_over_gradient_steps_alone_and_is_kept_with_the_encoders(way: str) -> None:
    model, guide = Program(GaussianPrior(torch.tensor(0.5), torch.Size([EDGE] * 3))), Gaussian()

    def weights(elbo: AuxiliaryELBO, steps: int) -> list[float]:
        svi, found = SVI(model, guide, JointAdam({"posterior": [guide]}, 1e-3), elbo), []
        for _ in range(steps):
            loss = svi.step() if way == "SVI.step" else elbo.differentiable_loss(model, guide).item()
            assert loss == pytest.approx(-elbo.parts["data"] + elbo.parts["kl_weight"] * elbo.parts["kl"])
            found.append(elbo.parts["kl_weight"])
            svi.evaluate_loss()
        return found

    first, resumed = (AuxiliaryELBO(kl_weight=0.4, warm_up=4) for _ in range(2))
    found = weights(first, 2)
    resumed.encoders.load_state_dict(first.encoders.state_dict())
    assert found + weights(resumed, 3) == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4])


def test_training_the_encoder_tightens_the_bound_to_the_closed_form() -> None:
    decoder = oracle.orthogonal_decoder(WEIGHTS, LATENT).requires_grad_(False)
    model, guide = Program(implicit(decoder)), Gaussian().requires_grad_(False)
    exact = repeated(AuxiliaryELBO({"1": oracle.exact_encoder(decoder)}), model, guide, 1_000).mean()
    elbo = AuxiliaryELBO({"1": oracle.wrong_encoder(decoder)})
    gap_before = repeated(elbo, model, guide, 1_000).mean() - exact
    svi = SVI(model, guide, JointAdam({"posterior": [guide], "encoders": [elbo.encoders]}, 0.01), elbo)
    for _ in range(1_000):
        svi.step()
    gap_after = repeated(elbo, model, guide, 1_000).mean() - exact
    assert gap_before > 0.5
    assert abs(gap_after) < 0.15 * gap_before


def test_svi_with_a_gaussian_prior_finds_the_conjugate_posterior() -> None:
    x = torch.randn(40, 3)
    y = x @ torch.tensor([1.0, -0.5, 0.2]) + 0.3 * torch.randn(40)
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
    optim = JointAdam({"posterior": [guide]}, {"posterior": 0.02})
    svi = SVI(model, guide, optim, AuxiliaryELBO(num_particles=2))
    for step in range(1_500):
        optim.optimiser.param_groups[0]["lr"] = 0.02 * (1 - step / 1_500)
        svi.step()
    variance, found = torch.linalg.inv(precision).diagonal(), guide.root.tril().detach().square().sum(1)
    assert ((guide.mean.detach() - expected).abs() < 0.1 * variance.sqrt()).all()
    torch.testing.assert_close(found, variance, rtol=0.1, atol=0)


def test_a_prior_without_encoder_and_a_guide_without_reparametrisation_are_refused_with_the_cure() -> None:
    with refuses("group '1'", "encoders()", error=ConfigError):
        AuxiliaryELBO().loss(Program(implicit(DECODER)), Gaussian())

    def discrete() -> None:
        pyro.sample("n", dist.Poisson(2.0))

    with refuses("rsample", error=ConfigError):
        AuxiliaryELBO().loss(discrete, discrete)


IMPOSSIBLE = {"kl_weight": [-1.0, math.nan, math.inf], "draws": [0, 10**8], "warm_up": [-1]}


@pytest.mark.parametrize("setting", [*IMPOSSIBLE, "kernels_per_group", "num_particles"])
def test_impossible_settings_are_refused(setting: str) -> None:
    for value in IMPOSSIBLE.get(setting, [0]):
        with refuses(f"{setting} is {value}", error=ConfigError):
            AuxiliaryELBO(**{setting: value})
