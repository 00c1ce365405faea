import math

import pytest
import torch
from torch.distributions import Laplace, Normal

from pyro_dwp import priors
from pyro_dwp.kernels.bank import KernelBank, root_mean_square
from pyro_dwp.report.comparison import fixed_prior_gain, pretrained_gain
from tests.helpers.refusal import refuses

POSITIONS, ENTRIES = 500, 9
LAPLACE = Laplace(0.0, 0.5**0.5)  # of variance 1
GAUSSIAN = Normal(0.0, 1.0)
DIVERGENCE = ENTRIES * (GAUSSIAN.entropy() - LAPLACE.entropy()).item()  # KL(Laplace ‖ Gaussian of the same variance)


def bank(shared: float, networks: int = 5, left_out: int = 0) -> KernelBank:
    """Return networks whose kernels agree position by position in a share of their variance."""
    common = torch.randn(POSITIONS, 3, 3) * math.sqrt(shared)
    kernels = torch.cat([common + torch.randn(POSITIONS, 3, 3) * math.sqrt(1 - shared) for _ in range(networks)])
    sources = torch.arange(networks).repeat_interleave(POSITIONS)
    return KernelBank({"1": kernels}, {"1": sources}, {"snapshots": networks, "left_out": {"1": left_out}})


@pytest.mark.parametrize(
    ("kernels", "prior", "expected"), [(GAUSSIAN, priors.Gaussian, 0.0), (LAPLACE, priors.Laplace, DIVERGENCE)]
)
def test_a_prior_at_the_scale_of_the_kernels_gains_the_divergence(kernels, prior, expected: float) -> None:
    fitted, held_out = kernels.sample((20_000, 3, 3)), kernels.sample((20_000, 3, 3))
    gain = fixed_prior_gain(prior(scale=root_mean_square(fitted)), "1", fitted, held_out)
    assert abs(gain.mean - expected) <= 4 * gain.error + 1e-5
    assert gain.error <= 0.05 * expected + 1e-5


@pytest.mark.parametrize("shared", [0.0, 0.9])
def test_a_prior_around_one_network_gains_what_the_networks_share(shared: float) -> None:
    """Around w, another network's weights have variance 2 (1 − shared) against 1: −½ log of that for each weight."""
    gain = pretrained_gain(bank(shared), "1")
    assert gain.mean == pytest.approx(-0.5 * ENTRIES * math.log(2 * (1 - shared)), abs=0.5)


@pytest.mark.parametrize("unfit", [{"left_out": 3}, {"networks": 2}])
def test_a_bank_without_the_positions_of_enough_kernels_is_refused(unfit: dict[str, int]) -> None:
    with refuses("minimum_norm 0"):
        pretrained_gain(bank(0.5, **unfit), "1")
