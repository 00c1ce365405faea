"""Every guide, and sites of every shape."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import guides
from guides import Guide
from pyro_dwp.sites import WeightSite, weight_sites

GUIDES: dict[str, Callable[..., Guide]] = {
    "point": guides.Point,
    "mean_field": guides.MeanField,
    "kernel_covariance": guides.KernelCovariance,
    "kernel_covariance, each": lambda *given: guides.KernelCovariance(*given, shared=False),
    "low_rank": lambda *given: guides.LowRank(*given, rank=3),
    "matrix_normal": guides.MatrixNormal,
    "ensemble": lambda *given: guides.Ensemble(*given, members=2),
    "ensemble of AutoNormal": lambda *given: guides.Ensemble(*given, guide=guides.auto.AutoNormal, members=2),
    "AutoNormal": guides.auto.AutoNormal,
    "AutoDelta": guides.auto.AutoDelta,
    "AutoDiagonalNormal": guides.auto.AutoDiagonalNormal,
    "AutoMultivariateNormal": guides.auto.AutoMultivariateNormal,
    "AutoLowRankMultivariateNormal": lambda *given: guides.auto.AutoLowRankMultivariateNormal(*given, rank=3),
}


@pytest.fixture(params=GUIDES)
def guide_class(request: pytest.FixtureRequest) -> Callable[..., Guide]:
    """Each guide in turn, to be called with sites and start."""
    return GUIDES[request.param]


@pytest.fixture
def sites() -> dict[str, WeightSite]:
    """2-D, 3-D, transposed, 1-voxel and linear weights, and biases."""
    network = nn.Sequential(
        nn.Conv2d(2, 3, 3),
        nn.Conv3d(2, 4, 3, bias=False),
        nn.ConvTranspose3d(4, 2, 2, bias=False),
        nn.Conv3d(3, 2, 1, bias=False),
        nn.Linear(3, 2),
    )
    return weight_sites(network, expose=lambda site: True)


@pytest.fixture
def start(sites: dict[str, WeightSite]) -> dict[str, Tensor]:
    return {name: 0.1 * torch.randn(site.shape) for name, site in sites.items()}
