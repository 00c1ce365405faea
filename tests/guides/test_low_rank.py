import pytest
import torch

from guides import LowRank
from pyro_dwp.errors import ConfigError
from pyro_dwp.sites import WeightSite

SITES = {
    "bias": WeightSite("bias", torch.Size((3,)), "bias"),
    "conv": WeightSite("conv", torch.Size((8, 4, 3, 3)), "3x3"),
}


@pytest.fixture
def start() -> dict:
    return {name: torch.randn(site.shape) for name, site in SITES.items()}


@pytest.mark.parametrize("rank", [1, 5])
def test_every_weight_starts_with_the_same_variance_a_hundredth_of_it_in_the_factor(start: dict, rank: int) -> None:
    guide = LowRank(SITES, start, rank, relative_scale=0.2)
    for name in SITES:
        variance = (0.2**2 * start[name].square().mean()).expand(start[name].shape)
        q = guide.distribution(name)
        torch.testing.assert_close(q.variance, variance)
        share = q.base.cov_factor.square().sum(-1) / q.base.variance
        torch.testing.assert_close(share, torch.full_like(share, 0.01))


def test_the_directions_start_different_from_each_other(start: dict) -> None:
    factor = LowRank(SITES, start, rank=5).parameter("factor", "conv")
    assert torch.linalg.matrix_rank(factor) == 5


def test_a_layer_has_no_more_directions_than_weights(start: dict) -> None:
    guide = LowRank(SITES, start, rank=5)
    assert guide.parameter("factor", "bias").shape == (3, 3)
    assert guide.parameter("factor", "conv").shape == (288, 5)


def test_a_rank_below_one_is_refused_with_the_cure(start: dict) -> None:
    with pytest.raises(ConfigError, match=r"received 0.*mean_field"):
        LowRank(SITES, start, rank=0)
