"""EM for mixtures of Gaussians: what it climbs never falls, and it finds mixtures that are known."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from pyro_dwp.errors import ConfigError
from pyro_dwp.kernels.densities import fit_gaussian, fit_student_t
from pyro_dwp.kernels.mixtures import GaussianMixture, fit_mixture

ENTRIES = 5


def as_torch(mixture: GaussianMixture) -> MixtureSameFamily:
    return MixtureSameFamily(
        Categorical(logits=mixture.log_weights), MultivariateNormal(mixture.means, scale_tril=mixture.factors)
    )


def a_mixture(weights: list[float], spread: float, seed: int = 0) -> MixtureSameFamily:
    generator, count = torch.Generator().manual_seed(seed), len(weights)
    roots = 0.5 * torch.randn(count, ENTRIES, ENTRIES, dtype=torch.float64, generator=generator)
    means = spread * torch.randn(count, ENTRIES, dtype=torch.float64, generator=generator)
    covariances = 0.01 * (roots @ roots.mT + 0.2 * torch.eye(ENTRIES))
    return MixtureSameFamily(
        Categorical(torch.tensor(weights, dtype=torch.float64)), MultivariateNormal(0.1 * means, covariances)
    )


def scale_mixture() -> MixtureSameFamily:
    matrix = torch.randn(ENTRIES, ENTRIES, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    covariance = 0.01 * (matrix @ matrix.T + torch.eye(ENTRIES))
    sizes = torch.tensor([0.05, 1.0, 8.0], dtype=torch.float64)[:, None, None]
    return MixtureSameFamily(
        Categorical(torch.tensor([0.3, 0.5, 0.2], dtype=torch.float64)),
        MultivariateNormal(torch.zeros(3, ENTRIES, dtype=torch.float64), sizes * covariance),
    )


TRUTHS = {"clusters": a_mixture([0.5, 0.3, 0.2], spread=2.0), "overlapping": a_mixture([0.6, 0.4], spread=0.5)}
TRUTHS["scales"] = scale_mixture()


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
    if len(more.objective) == 21:
        assert more.objective[-1] == pytest.approx(
            float(one.mixture.log_density(kernels).mean()) + log_volume, abs=1e-6
        )


@pytest.mark.parametrize("name", TRUTHS)
def test_a_known_mixture_is_recovered(name: str) -> None:
    """Held-out log density of the fit against the truth's: the fit costs about (free parameters) / 2n nats."""
    truth, count = TRUTHS[name], 20_000
    components = len(truth.mixture_distribution.probs)
    fit = fit_mixture(drawn(truth, count, 0), drawn(truth, 2000, 1), components).mixture
    held_out = drawn(truth, 20_000, 2)
    gap = truth.log_prob(held_out) - fit.log_density(held_out)
    error = float(gap.std()) / math.sqrt(len(gap))
    cost = components * (1 + ENTRIES * (ENTRIES + 3) / 2) / (2 * count)
    assert float(gap.mean()) == pytest.approx(cost, abs=4 * error + 3e-3)


def test_heavy_tails_are_described_as_well_as_by_the_student_t_that_made_them() -> None:
    torch.manual_seed(0)
    size = (torch.distributions.Chi2(4.0).sample((12_000, 1)) / 4).sqrt().double()
    kernels = MultivariateNormal(torch.zeros(ENTRIES).double(), torch.eye(ENTRIES).double()).sample((12_000,)) / size
    fit = fit_mixture(kernels[:9000], kernels[9000:10_000], 6).mixture
    student_t, gaussian = (
        fitter(kernels[:9000]).log_density(kernels[10_000:]) for fitter in (fit_student_t, fit_gaussian)
    )
    found = fit.log_density(kernels[10_000:])
    assert float((student_t - gaussian).mean()) > 0.7
    assert float((student_t - found).mean()) < 0.05


def test_the_density_is_torchs() -> None:
    kernels = drawn(TRUTHS["clusters"], 500, 0)
    fit = fit_mixture(kernels[:400], kernels[400:], 3, steps=5).mixture
    torch.testing.assert_close(fit.log_density(kernels), as_torch(fit).log_prob(kernels))


def test_a_fit_does_not_depend_on_the_unit_of_the_weights() -> None:
    kernels = drawn(TRUTHS["overlapping"], 800, 0)
    small, large = (
        fit_mixture(unit * kernels[:600], unit * kernels[600:], 3, steps=20).mixture for unit in (1.0, 100.0)
    )
    torch.testing.assert_close(100 * small.means, large.means, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(small.log_weights, large.log_weights, rtol=1e-6, atol=1e-6)


def test_a_fit_repeats_itself_and_draws_no_random_numbers() -> None:
    kernels, state = drawn(TRUTHS["clusters"], 500, 0), torch.get_rng_state()
    first, second = (fit_mixture(kernels[:400], kernels[400:], 3, seed=4, steps=10).mixture for _ in range(2))
    assert torch.equal(first.factors, second.factors)
    assert torch.equal(torch.get_rng_state(), state)


def test_chunks_do_not_change_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = drawn(TRUTHS["clusters"], 500, 0)
    whole = fit_mixture(kernels[:400], kernels[400:], 3, steps=10).mixture
    monkeypatch.setattr("pyro_dwp.kernels.mixtures.CHUNK", 37)
    parts = fit_mixture(kernels[:400], kernels[400:], 3, steps=10).mixture
    torch.testing.assert_close(whole.means, parts.means)


def test_more_components_than_the_kernels_can_carry_stay_well_conditioned() -> None:
    kernels = drawn(TRUTHS["clusters"], 40, 0)
    fit = fit_mixture(kernels[:30], kernels[30:], 12).mixture
    spread = torch.linalg.eigvalsh(fit.factors @ fit.factors.mT)
    assert float((spread[:, -1] / spread[:, 0]).max()) < 1e3
    assert fit.log_density(kernels).isfinite().all()


def test_the_fit_stops_when_the_steering_kernels_no_longer_gain() -> None:
    kernels = drawn(TRUTHS["clusters"], 120, 0)
    fit = fit_mixture(kernels[:60], kernels[60:], 8, shrinkage=1e-3)
    assert len(fit.objective) < 300
    assert float(fit.mixture.log_density(kernels[60:]).mean()) == pytest.approx(max(fit.steering), abs=1e-9)


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


@pytest.mark.parametrize("settings", [{"components": 0}, {"components": 51}, {"steps": 0}, {"shrinkage": 0.0}])
def test_settings_that_cannot_work_are_refused(settings: dict) -> None:
    kernels = drawn(TRUTHS["clusters"], 60, 0)
    with pytest.raises(ConfigError, match=f"{next(iter(settings))}={next(iter(settings.values()))}"):
        fit_mixture(kernels[:50], kernels[50:], **{"components": 2, **settings})
