import json
import math

import pytest
import torch
from scipy import stats
from torch.distributions import MultivariateNormal

from pyro_dwp.kernels.bank import KernelBank
from pyro_dwp.kernels.information import (
    bank_information,
    estimate,
    gaussian_log_density,
    information_table,
    isotropic_log_density,
    measure,
    student_t_log_density,
)

ENTRIES = 27
FITTING_COST = ENTRIES * (ENTRIES + 3) / 4  # of a mean and a covariance, in nats, for all kernels of the fit together


def a_covariance(seed: int = 0) -> torch.Tensor:
    root = torch.randn(ENTRIES, ENTRIES, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return 0.01 * (root @ root.T / ENTRIES + 0.5 * torch.eye(ENTRIES, dtype=torch.float64))


def correlated(count: int, seed: int = 1) -> torch.Tensor:
    noise = torch.randn(count, ENTRIES, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return noise @ torch.linalg.cholesky(a_covariance()).T


def heavy_tailed(count: int, degrees: float) -> torch.Tensor:
    torch.manual_seed(5)
    chi2 = torch.distributions.Chi2(torch.tensor(degrees, dtype=torch.float64)).sample((count, 1))
    return correlated(count) / (chi2 / degrees).sqrt()


def test_the_gaussians_gain_is_the_closed_form_on_correlated_kernels():
    kernels = correlated(40_000)
    gain = measure("1", 1, kernels[:30_000], kernels[30_000:]).gaussian
    closed_form = 0.5 * (ENTRIES * a_covariance().diagonal().mean().log() - torch.logdet(a_covariance()))
    assert abs(gain.mean - float(closed_form)) < 4 * gain.error + FITTING_COST / 30_000


def test_the_student_ts_gain_and_degrees_are_the_known_ones_on_heavy_tailed_kernels():
    kernels = heavy_tailed(40_000, degrees=6.0)
    found = measure("1", 1, kernels[:30_000], kernels[30_000:])
    entropy = float(stats.multivariate_t(shape=a_covariance().numpy(), df=6.0).entropy())
    variance = float(a_covariance().diagonal().mean()) * 6 / 4
    closed_form = 0.5 * ENTRIES * (math.log(2 * math.pi * variance) + 1) - entropy
    assert abs(found.student_t.mean - closed_form) < 4 * found.student_t.error + 0.05
    assert found.degrees_of_freedom == pytest.approx(6.0, rel=0.05)


def test_white_noise_gives_nothing():
    noise = torch.randn(6000, ENTRIES, generator=torch.Generator().manual_seed(2))
    found = measure("1", 1, noise[:5000], noise[5000:])
    for gain in (found.gaussian, found.student_t):
        assert gain.mean < 0
        assert abs(gain.mean + FITTING_COST / 5000) < 4 * gain.error


def test_densities_agree_with_torch():
    kernels = correlated(500)
    mean, covariance = kernels.mean(0), kernels.T.cov(correction=0)
    expected = MultivariateNormal(mean, covariance).log_prob(kernels[:9])
    torch.testing.assert_close(gaussian_log_density(kernels, kernels[:9]), expected, rtol=1e-5, atol=1e-5)
    isotropic = MultivariateNormal(torch.zeros(ENTRIES).double(), kernels.square().mean() * torch.eye(ENTRIES).double())
    torch.testing.assert_close(isotropic_log_density(kernels, kernels[:9]), isotropic.log_prob(kernels[:9]))


def test_a_student_t_of_gaussian_kernels_is_the_gaussian():
    kernels = correlated(5000)
    log_density, degrees = student_t_log_density(kernels, kernels[:100])
    assert degrees > 200
    torch.testing.assert_close(log_density, gaussian_log_density(kernels, kernels[:100]), rtol=0, atol=0.2)


def test_gains_do_not_depend_on_the_unit_of_the_weights():
    kernels = heavy_tailed(2000, 5.0)
    small, large = (measure("1", 1, unit * kernels[:1500], unit * kernels[1500:]) for unit in (1.0, 1000.0))
    assert small.gaussian.mean == pytest.approx(large.gaussian.mean, abs=1e-6)
    assert small.student_t.mean == pytest.approx(large.student_t.mean, abs=1e-3)


def test_too_few_kernels_give_no_number_and_linearly_dependent_entries_do_not_break_the_fit():
    kernels = correlated(500)
    kernels[:, 0] = kernels[:, 1]
    assert math.isfinite(measure("1", 1, kernels[:400], kernels[400:]).student_t.mean)
    found = measure("1", 1, kernels[:53], kernels[53:60])
    assert math.isnan(found.gaussian.mean)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["gaussian"]["mean"] is None


def test_every_group_of_a_bank_is_measured_and_printed():
    kernels = {name: correlated(300, seed).reshape(-1, 3, 3, 3).float() for name, seed in (("1", 1), ("2", 2))}
    source = torch.arange(300) % 3
    facts = {"left_out": {"1": 41, "2": 0}, "layers": {"1": ["a", "b"], "2": ["c"]}}
    bank = KernelBank(kernels, dict.fromkeys(kernels, source), facts)
    rows = bank_information(bank)
    assert [(row.group, row.networks, row.fitted, row.held_out) for row in rows] == [(g, 3, 200, 100) for g in "12"]
    lines = information_table(rows, bank).splitlines()
    assert len(lines) == 3
    assert lines[1].split()[:5] == ["1", "2", "41", "200", "100"]


def test_a_learned_prior_is_compared_kernel_by_kernel():
    values = torch.tensor([1.0, 2.0, 3.0, 6.0])
    assert (estimate(values).mean, estimate(values).error) == (3.0, pytest.approx(float(values.std()) / 2))
    kernels = correlated(200)
    isotropic = isotropic_log_density(kernels[:100], kernels[100:])
    found = measure("1", 1, kernels[:100], kernels[100:], learned=isotropic + 2.0)
    assert found.learned.mean == pytest.approx(2.0)
    assert found.learned.error == pytest.approx(0.0, abs=1e-9)
    assert "mixture (exact) - iso" in information_table([found], learned="mixture (exact)")
