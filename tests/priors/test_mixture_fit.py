"""EM for mixtures of Gaussians: what it climbs never falls, and it finds mixtures that are known."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from pyro_dwp.errors import PyroDwpError
from pyro_dwp.kernels.densities import fit_gaussian, fit_student_t
from pyro_dwp.priors.mixture import GaussianMixture, fit_mixture
from tests.helpers.monte_carlo import assert_mean
from tests.helpers.refusal import refuses

ENTRIES = 5


def a_mixture(
    weights: list[float], spread: float, sizes: tuple[float, ...] = (1.0,), shapes: int | None = None
) -> MixtureSameFamily:
    """Return a mixture of as many shapes of covariance, times sizes, around means this far apart."""
    generator, count = torch.Generator().manual_seed(0), len(weights)
    roots = 0.5 * torch.randn(shapes or count, ENTRIES, ENTRIES, dtype=torch.float64, generator=generator)
    means = spread * torch.randn(count, ENTRIES, dtype=torch.float64, generator=generator)
    covariances = 0.01 * (roots @ roots.mT + 0.2 * torch.eye(ENTRIES)) * torch.tensor(sizes)[:, None, None]
    components = MultivariateNormal(0.1 * means, covariances.expand(count, -1, -1))
    return MixtureSameFamily(Categorical(torch.tensor(weights, dtype=torch.float64)), components)


TRUTHS = {
    "clusters": a_mixture([0.5, 0.3, 0.2], spread=2.0),
    "overlapping": a_mixture([0.6, 0.4], spread=0.5),
    "scales": a_mixture([0.3, 0.5, 0.2], spread=0.0, sizes=(0.05, 1.0, 8.0), shapes=1),
}


def drawn(truth: MixtureSameFamily, count: int, seed: int) -> Tensor:
    torch.manual_seed(seed)
    return truth.sample((count,))


@pytest.mark.parametrize("shrinkage", [1e-9, 1.0, 30.0])
@pytest.mark.parametrize("name", TRUTHS)
def test_no_step_lowers_the_penalised_likelihood(name: str, shrinkage: float) -> None:
    kernels = drawn(TRUTHS[name], 600, 0)
    fit = fit_mixture(kernels, drawn(TRUTHS[name], 300, 1), 4, shrinkage)
    rises = torch.tensor(fit.objective).diff()
    assert len(rises) >= 4
    assert float(rises.min()) > -1e-9
    assert float(rises.sum()) > 0


def test_without_shrinkage_the_objective_is_the_likelihood() -> None:
    kernels = drawn(TRUTHS["clusters"], 2000, 0)
    one, more = (fit_mixture(kernels, kernels, 3, 1e-9, steps) for steps in (20, 21))
    log_volume = float(fit_gaussian(kernels).factor.diagonal().log().sum())
    likelihood = float(one.mixture.log_prob(kernels).mean()) + log_volume
    assert len(more.objective) < 21 or more.objective[-1] == pytest.approx(likelihood, abs=1e-6)


@pytest.mark.parametrize("name", TRUTHS)
def test_a_known_mixture_is_recovered(name: str) -> None:
    """Held-out log density of the fit against the truth's: the fit costs about (free parameters) / 2n nats."""
    truth, count = TRUTHS[name], 20_000
    components = len(truth.mixture_distribution.probs)
    fit = fit_mixture(drawn(truth, count, 0), drawn(truth, 2000, 1), components).mixture
    held_out = drawn(truth, 20_000, 2)
    cost = components * (1 + ENTRIES * (ENTRIES + 3) / 2) / (2 * count)
    assert_mean(truth.log_prob(held_out) - fit.log_prob(held_out), cost, within=2e-3, bias=3e-3)


def test_heavy_tails_are_described_as_well_as_by_the_student_t_that_made_them() -> None:
    torch.manual_seed(0)
    size = (torch.distributions.Chi2(4.0).sample((12_000, 1)) / 4).sqrt().double()
    kernels = MultivariateNormal(torch.zeros(ENTRIES).double(), torch.eye(ENTRIES).double()).sample((12_000,)) / size
    fit = fit_mixture(kernels[:9000], kernels[9000:10_000], 6).mixture
    student_t, gaussian = (each(kernels[:9000]).log_density(kernels[10_000:]) for each in (fit_student_t, fit_gaussian))
    found = fit.log_prob(kernels[10_000:])
    assert float((student_t - gaussian).mean()) > 0.7
    assert float((student_t - found).mean()) < 0.05


def test_a_fit_repeats_itself_in_any_unit_and_any_chunks_and_its_density_is_torchs(monkeypatch):
    kernels, state = drawn(TRUTHS["overlapping"], 800, 0), torch.get_rng_state()

    def fit(unit: float = 1.0) -> GaussianMixture:
        return fit_mixture(unit * kernels[:600], unit * kernels[600:], 3, seed=4, steps=20).mixture

    first, again, large = fit(), fit(), fit(100.0)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.scale_tril, again.scale_tril)
    torch.testing.assert_close(100 * first.means, large.means, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(first.log_weights, large.log_weights, rtol=1e-6, atol=1e-6)
    components = MultivariateNormal(first.means, scale_tril=first.scale_tril)
    expected = MixtureSameFamily(Categorical(logits=first.log_weights), components).log_prob(kernels)
    torch.testing.assert_close(first.log_prob(kernels), expected)
    monkeypatch.setattr("pyro_dwp.priors.mixture.CHUNK", 37)
    torch.testing.assert_close(first.means, fit().means)


def test_more_components_than_the_kernels_can_carry_stay_well_conditioned() -> None:
    kernels = drawn(TRUTHS["clusters"], 40, 0)
    fit = fit_mixture(kernels[:30], kernels[30:], 12).mixture
    spread = torch.linalg.eigvalsh(fit.scale_tril @ fit.scale_tril.mT)
    assert float((spread[:, -1] / spread[:, 0]).max()) < 1e3
    assert fit.log_prob(kernels).isfinite().all()


def test_the_fit_stops_when_the_validation_kernels_no_longer_gain() -> None:
    kernels = drawn(TRUTHS["clusters"], 120, 0)
    fit = fit_mixture(kernels[:60], kernels[60:], 8, shrinkage=1e-3)
    assert len(fit.objective) < 300
    assert float(fit.mixture.log_prob(kernels[60:]).mean()) == pytest.approx(max(fit.validation), abs=1e-9)


@pytest.mark.parametrize(("count", "components"), [(300, 4), (1000, 6)])
def test_the_steps_of_the_best_mixture_lead_to_it_again(count: int, components: int) -> None:
    kernels = drawn(TRUTHS["clusters"], 2 * count, 0)
    fit = fit_mixture(kernels[:count], kernels[count:], components, shrinkage=1e-3)
    assert 0 < fit.steps < len(fit.objective)
    again = fit_mixture(kernels[:count], kernels[count:], components, shrinkage=1e-3, steps=fit.steps)
    assert again.steps == fit.steps
    torch.testing.assert_close(again.mixture.means, fit.mixture.means)


def test_the_start_that_went_on_is_named_and_can_be_chosen() -> None:
    kernels = drawn(TRUTHS["clusters"], 600, 0)
    free = fit_mixture(kernels[:300], kernels[300:], 4, steps=20)
    fits = {start: fit_mixture(kernels[:300], kernels[300:], 4, steps=20, start=start) for start in ("shells", "cones")}
    assert [name for name, fit in fits.items() if torch.equal(fit.mixture.means, free.mixture.means)] == [free.start]
    assert all(fit.start == name for name, fit in fits.items())


@pytest.mark.parametrize(
    "settings", [{"components": 0}, {"components": 51}, {"steps": 0}, {"shrinkage": 0.0}, {"shrinkage": math.nan}]
)
def test_settings_that_cannot_work_are_refused(settings: dict) -> None:
    kernels = drawn(TRUTHS["clusters"], 60, 0)
    with refuses(*settings, error=PyroDwpError):
        fit_mixture(kernels[:50], kernels[50:], **{"components": 2, **settings})
