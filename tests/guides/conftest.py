"""Every guide, and sites of every shape."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from guides import Guide
from pyro_dwp.sites import WeightSite, weight_sites
from tests.helpers.guides import GUIDES


@pytest.fixture(params=GUIDES)
def guide_class(request: pytest.FixtureRequest) -> Callable[..., Guide]:
    """Each guide in turn, to be called with sites."""
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
