"""The fit of every family to one group, the trainer behind it, and the held-out log density against what is known."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal, Normal

from models.kernel_vae import KernelVAE
from pyro_dwp import priors
from pyro_dwp.errors import ConfigError, DataError
from pyro_dwp.kernels.densities import fit_gaussian, fit_student_t
from pyro_dwp.priors.mixture import fit_mixture
from pyro_dwp.train import GradientTrainer, Schedule, held_out_log_density
from tests.helpers import fitted
from tests.helpers.linear_gaussian import LinearDecoder, exact_encoder, orthogonal_decoder, wrong_encoder
from tests.helpers.monte_carlo import assert_mean
from tests.helpers.refusal import refuses

FITS = {
    "empirical": priors.EmpiricalFit(),
    "student_t": priors.EmpiricalFit(student_t=True),
    "mixture": priors.MixtureFit(components=2, steps=20),
    "flow": priors.FlowFit(transforms=1, hidden=8),
    "deep_weight": priors.DeepWeightFit(latent=2, hidden=8),
}


def trainer(folder: Path, epochs: int = 3, resume: bool = False) -> GradientTrainer:
    schedule = Schedule(epochs=epochs, batch_size=100, learning_rate=1e-2)
    return GradientTrainer(KernelVAE, folder, schedule, seed=4, resume=resume)


def some_kernels() -> tuple[torch.Tensor, torch.Tensor]:
    kernels = fitted.synthetic_kernels(500, (3, 3)).float()
    return kernels[:400], kernels[400:]


@pytest.mark.parametrize("name", FITS)
def test_a_fit_is_better_than_white_noise(tmp_path: Path, name: str) -> None:
    density = FITS[name].fit(*some_kernels(), trainer(tmp_path, epochs=15)).density
    held_out = fitted.synthetic_kernels(2000, (3, 3), seed=1).float()
    white = Normal(0.0, some_kernels()[0].square().mean().sqrt()).log_prob(held_out).sum((1, 2))
    assert float((held_out_log_density(density, held_out, draws=100) - white).mean()) > 0


@pytest.mark.parametrize("name", FITS)
def test_a_fit_repeats_itself_and_a_resumed_one_ends_where_an_uninterrupted_one_does(tmp_path: Path, name: str) -> None:
    whole = FITS[name].fit(*some_kernels(), trainer(tmp_path / "whole", 4))
    FITS[name].fit(*some_kernels(), trainer(tmp_path / "parts", 2))
    parts = FITS[name].fit(*some_kernels(), trainer(tmp_path / "parts", 4, resume=True))
    assert whole.steps == parts.steps == (4 if name in ("flow", "deep_weight") else whole.steps)
    assert parts.seconds > 0
    torch.testing.assert_close(parts.density.state_dict(), whole.density.state_dict(), rtol=0, atol=0)


def test_closed_forms_are_those_of_all_kernels_and_em_takes_the_steps_that_validation_chose(tmp_path: Path) -> None:
    training, validation = some_kernels()
    every = torch.cat([training, validation]).flatten(1).double()
    for name, fitter in (("empirical", fit_gaussian), ("student_t", fit_student_t)):
        found, expected = FITS[name].fit(training, validation, trainer(tmp_path)), fitter(every)
        assert found.steps == 0
        assert torch.equal(found.density.mean, expected.mean.float())
        assert torch.equal(found.density.scale_tril, expected.factor.float())
    found = FITS["mixture"].fit(training, validation, trainer(tmp_path))
    trial = fit_mixture(training.flatten(1).double(), validation.flatten(1).double(), 2, steps=20, seed=4)
    again = fit_mixture(every, every, 2, steps=found.steps, seed=4, start=trial.start)
    assert found.steps == max(trial.steps, 1)
    assert torch.equal(found.density.means, again.mixture.means.float())


@pytest.mark.parametrize("standardise", [True, False])
def test_the_autoencoder_is_standardised_by_all_kernels_or_not_at_all(tmp_path: Path, standardise: bool) -> None:
    training, validation = some_kernels()
    fit = priors.DeepWeightFit(latent=2, hidden=8, standardise=standardise)
    density = fit.fit(training, validation, trainer(tmp_path)).density
    expected = float(torch.cat([training, validation]).square().mean().sqrt()) if standardise else 1.0
    assert float(density.decoder.kernel_scale) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["empirical", "student_t", "mixture", "flow"])
def test_too_few_kernels_for_a_covariance_are_refused(tmp_path: Path, name: str) -> None:
    training, _ = some_kernels()
    with refuses("18 kernels", "17", error=DataError):
        FITS[name].fit(training[:17], training[17:17], trainer(tmp_path))


# The held-out log density.


class Linear(nn.Module):
    """An implicit density whose marginal is known."""

    def __init__(self, decoder: LinearDecoder, encoder: nn.Module | None) -> None:
        super().__init__()
        self.decoder, self.encoder = decoder, encoder

    def distribution(self, group: str = "") -> priors.DeepWeightPrior:
        return priors.DeepWeightPrior(self.decoder, 2, torch.Size([3, 3]), group, self.decoder.shift)


def test_the_bound_is_the_log_density_with_the_true_posterior_and_with_another_more_draws_tighten_it() -> None:
    decoder = orthogonal_decoder(9, 2)
    kernels = decoder.marginal().sample((1000,)).reshape(-1, 3, 3)
    exact, wrong = decoder.marginal().log_prob(kernels.flatten(1)), Linear(decoder, wrong_encoder(decoder))
    for draws in (1, 7):
        found = held_out_log_density(Linear(decoder, exact_encoder(decoder)), kernels[:5], draws)
        torch.testing.assert_close(found, exact[:5])
    gaps = [held_out_log_density(wrong, kernels, draws) - exact for draws in (1, 10, 300)]
    assert gaps[0].mean() < gaps[1].mean() < gaps[2].mean()
    assert_mean(gaps[2], 0.0, within=0.01, bias=0.1)


def test_the_bound_depends_on_its_seed_alone_and_needs_draws_and_an_encoder() -> None:
    density, kernels, state = priors.DeepWeightDensity((3, 3), hidden=8), torch.randn(40, 3, 3), torch.get_rng_state()
    first, second, other = (held_out_log_density(density, kernels, 10, seed) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)
    with refuses("draws", error=ConfigError):
        held_out_log_density(density, kernels, draws=0)
    with refuses("`encoder`", error=ConfigError):
        held_out_log_density(Linear(LinearDecoder(9, 2), None), kernels)


def test_an_exact_density_is_that_of_the_stored_prior_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = fitted.synthetic_kernels(100, (3, 3))
    density = priors.EmpiricalDensity.of((3, 3), fit_gaussian(kernels.flatten(1)))
    expected = MultivariateNormal(density.mean, scale_tril=density.scale_tril).log_prob(kernels.flatten(1).float())
    monkeypatch.setattr("pyro_dwp.train.fit_prior.CHUNK", 7)
    torch.testing.assert_close(held_out_log_density(density, kernels), expected.double())
