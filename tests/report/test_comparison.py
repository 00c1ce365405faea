import math

import pytest
import torch

from pyro_dwp.errors import DataError
from pyro_dwp.kernels.bank import KernelBank, root_mean_square
from pyro_dwp.kernels.information import Estimate
from pyro_dwp.priors import Gaussian, Laplace
from pyro_dwp.report.comparison import PriorRow, comparison_table, fixed_prior_gain, group_scales, pretrained_gain

PLACES, ENTRIES = 500, 9


def bank(shared: float, networks: int = 5, left_out: int = 0) -> KernelBank:
    """Return networks whose kernels agree place by place: a share `shared` of their variance is the same in all."""
    common = torch.randn(PLACES, 3, 3) * math.sqrt(shared)
    kernels = torch.cat([common + torch.randn(PLACES, 3, 3) * math.sqrt(1 - shared) for _ in range(networks)])
    sources = torch.arange(networks).repeat_interleave(PLACES)
    return KernelBank({"1": kernels}, {"1": sources}, {"snapshots": networks, "left_out": {"1": left_out}})


def test_a_gaussian_at_the_groups_scale_gains_nothing_over_the_isotropic_one() -> None:
    fitted, judged = torch.randn(400, 3, 3), torch.randn(300, 3, 3)
    gain = fixed_prior_gain(Gaussian(scale=root_mean_square(fitted)), "1", fitted, judged)
    assert gain.mean == pytest.approx(0, abs=1e-5)


def test_on_laplacian_kernels_the_laplace_prior_gains_what_the_divergence_says() -> None:
    """KL(Laplace ‖ Gaussian of the same variance) = ½ log(2π) − log 2 − 1 + ½ + ½ log 2 for each weight."""
    laplace = torch.distributions.Laplace(0.0, math.sqrt(0.5))
    fitted, judged = laplace.sample((20_000, 3, 3)), laplace.sample((20_000, 3, 3))
    gain = fixed_prior_gain(Laplace(scale=root_mean_square(fitted)), "1", fitted, judged)
    expected = ENTRIES * (0.5 * math.log(2 * math.pi) + 0.5 - math.log(2) - 1 + 0.5 * math.log(2))
    assert abs(gain.mean - expected) < 4 * gain.error
    assert gain.error < 0.05 * expected


@pytest.mark.parametrize("shared", [0.0, 0.9])
def test_a_prior_around_one_network_gains_what_the_networks_share(shared: float) -> None:
    """Around w, another network's weights have variance 2 (1 − shared) against 1: the gain is −½ log of that, for each weight."""
    gain = pretrained_gain(bank(shared), "1")
    assert gain.mean == pytest.approx(-0.5 * ENTRIES * math.log(2 * (1 - shared)), abs=0.5)


def test_a_bank_that_lost_the_places_of_its_kernels_is_refused() -> None:
    with pytest.raises(DataError, match="minimum_norm 0"):
        pretrained_gain(bank(0.5, left_out=3), "1")


def test_the_scale_of_a_group_is_that_of_its_fitted_kernels() -> None:
    found = bank(0.5)
    assert group_scales(found)["1"] == pytest.approx(root_mean_square(found.split("1")[0]))


def test_the_best_prior_of_each_group_is_set_in_bold() -> None:
    rows = [
        PriorRow("first", {"1": Estimate(1.0, 0.1), "2": Estimate(5.0, 0.1)}, True, 1000),
        PriorRow("second", {"1": Estimate(3.0, 0.1), "2": Estimate(4.0, 0.1)}, False, 10, 2.0, 0.5),
    ]
    lines = comparison_table(rows).splitlines()
    assert lines[2] == "| first | +1.0 ± 0.1 | **+5.0 ± 0.1** | exact | 1,000 |  |  |"
    assert lines[3] == "| second | **+3.0 ± 0.1** | +4.0 ± 0.1 | bound | 10 | 2 | 0.50 |"
