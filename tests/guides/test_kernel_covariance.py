import torch

from guides import KernelCovariance
from pyro_dwp.sites import WeightSite

SITE = WeightSite("w", torch.Size((5, 3, 2, 2)), "1")


def given() -> tuple[dict, dict]:
    return {"w": SITE}, {"w": torch.randn(SITE.shape)}


def test_it_starts_with_independent_weights_of_one_width() -> None:
    sites, start = given()
    for shared in (True, False):
        covariance = KernelCovariance(sites, start, 0.2, shared).distribution("w").base_dist.base.covariance_matrix
        expected = (0.2**2 * start["w"].square().mean() * torch.eye(4)).expand(5, 3, 4, 4)
        torch.testing.assert_close(covariance, expected)


def test_a_shared_covariance_is_held_once_and_not_copied_to_the_kernels() -> None:
    guide = KernelCovariance(*given())
    assert guide.parameter("root", "w").shape == (4, 4)
    kernels = guide.distribution("w").base_dist.base
    assert kernels.scale_tril.stride()[:2] == (0, 0)
    assert KernelCovariance(*given(), shared=False).parameter("root", "w").shape == (5, 3, 4, 4)


def test_the_same_step_of_the_parameters_is_the_same_change_at_every_size_of_weights() -> None:
    sites, start = given()
    small = {"w": 1e-3 * start["w"]}
    correlations = []
    for begin in (start, small):
        guide = KernelCovariance(sites, begin)
        with torch.no_grad():
            guide.parameter("root", "w").add_(0.3 * torch.ones(4, 4))
        covariance = guide.distribution("w").base_dist.base.covariance_matrix[0, 0].detach()
        correlations.append(covariance / begin["w"].square().mean())
    torch.testing.assert_close(*correlations)
