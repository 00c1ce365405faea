import math

import pytest
import torch

from pyro_dwp.errors import ConfigError
from pyro_dwp.nn import UNet
from pyro_dwp.priors import Gaussian
from pyro_dwp.sites import weight_sites
from pyro_dwp.transfer import scale_parameters, start_function
from tests.helpers.refusal import refuses


def test_scaling_multiplies_every_parameter() -> None:
    network = UNet(channels=(2, 4))
    before = [p.detach().clone() for p in network.parameters()]
    scale_parameters(network, 0.5)
    assert all(torch.equal(0.5 * a, b) for a, b in zip(before, network.parameters(), strict=True))
    for factor in (0.0, -1.0, math.nan):
        with refuses(f"factor is {factor}", error=ConfigError):
            scale_parameters(network, factor)


@pytest.mark.parametrize("kind", ["random", "source"])
def test_a_start_from_a_network_is_a_copy_of_its_weights_and_only_a_random_one_is_new_the_next_time(kind: str) -> None:
    network, new = UNet(channels=(2, 4)), UNet(channels=(2, 4))
    draw = start_function(kind, weight_sites(network), network, Gaussian(), lambda: new)
    for expected in (network, new if kind == "random" else network):
        weights = draw()
        for name, weight in weights.items():
            assert torch.equal(weight, expected.get_parameter(name))
            assert weight.data_ptr() != expected.get_parameter(name).data_ptr()
            assert not weight.requires_grad


def test_a_start_from_the_prior_is_a_draw_for_each_site_in_order_and_another_each_time() -> None:
    network, prior = UNet(), Gaussian(scale=0.03)
    sites = weight_sites(network)
    draw = start_function("prior", sites, network, prior)
    torch.manual_seed(1)
    first, second = draw(), draw()
    torch.manual_seed(1)
    assert all(torch.equal(first[name], prior.site_distribution(site).sample()) for name, site in sites.items())
    assert not any(torch.equal(first[name], second[name]) for name in sites)
    assert torch.cat([weight.flatten() for weight in first.values()]).std().item() == pytest.approx(0.03, rel=0.01)


def test_an_unknown_start_lists_the_legal_ones() -> None:
    with refuses("sorce", "Did you mean 'source'", error=ConfigError):
        start_function("sorce", {}, UNet(channels=(2, 4)), Gaussian())
