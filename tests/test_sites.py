from urllib.parse import unquote

import pytest
import torch
from torch import nn

from pyro_dwp.errors import ConfigError
from pyro_dwp.nn import UNet
from pyro_dwp.sites import FunctionalNetwork, module_key, weight_sites
from tests.helpers.refusal import refuses


def test_the_papers_network_has_nineteen_sites_with_26640_kernels() -> None:
    sites = weight_sites(UNet())
    assert len(sites) == 19
    assert sum(site.num_kernels for site in sites.values()) == 26_640
    assert all(site.kernel_shape == (3, 3, 3) for site in sites.values())


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_functional_network_on_the_networks_own_weights_is_the_network(ndim: int, device: torch.device) -> None:
    network = UNet(channels=(4, 8), ndim=ndim).to(device)
    functional = FunctionalNetwork(network, weight_sites(network)).to(device)
    image = torch.randn(2, 1, *(10, 8, 12)[:ndim], device=device)
    weights = {name: network.get_parameter(name) for name in functional.sites}
    assert torch.equal(functional(weights, image), network(image))


def test_what_is_no_site_stays_a_parameter_of_the_functional_network_and_the_network_as_it_is() -> None:
    network = UNet()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    functional = FunctionalNetwork(network, weight_sites(network))
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert sum(p.numel() for p in functional.parameters()) == 726_480 - 27 * 26_640
    assert set(functional.state_dict()) == {f"network.{n}" for n in network.state_dict() if n not in functional.sites}


def test_gradients_reach_the_given_weights() -> None:
    network = UNet(channels=(2, 4), ndim=2)
    functional = FunctionalNetwork(network, weight_sites(network))
    weights = {n: network.get_parameter(n).detach().clone().requires_grad_() for n in functional.sites}
    functional(weights, torch.randn(1, 1, 8, 8)).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in weights.values())


def test_a_missing_or_misshapen_weight_names_the_site_and_both_shapes() -> None:
    network = UNet(channels=(2, 4), ndim=2)
    functional = FunctionalNetwork(network, weight_sites(network))
    for found, token in (({"init_conv.weight": torch.zeros(1, 1, 3, 3)}, "(1, 1, 3, 3)"), ({}, "none")):
        with refuses("(2, 1, 3, 3)", "'init_conv.weight'", token, error=ConfigError):
            functional(found, torch.zeros(1, 1, 8, 8))


def test_a_network_without_groups_has_one_for_each_kernel_shape() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ConvTranspose2d(2, 2, 2), nn.Conv2d(2, 2, 1), nn.Linear(2, 2))
    sites = weight_sites(network)
    assert {name: site.group for name, site in sites.items()} == {"0.weight": "3x3", "1.weight": "2x2"}


@pytest.mark.parametrize(
    ("edge", "groups", "token"),
    [(1, None, "Conv2d"), (3, {}, "weight"), (3, {"weight": "1", "weigth": "1"}, "Did you mean 'weight'")],
    ids=["no kernels", "no group", "unknown site"],
)
def test_a_network_without_kernels_and_wrong_groups_are_refused(edge: int, groups: dict | None, token: str) -> None:
    with refuses(token, error=ConfigError):
        weight_sites(nn.Conv2d(1, 1, edge), groups)


def test_the_inputs_of_a_layer_are_counted_for_plain_transposed_and_linear_layers_and_their_biases() -> None:
    network = nn.ModuleDict(
        {"plain": nn.Conv2d(8, 4, 3, groups=2), "up": nn.ConvTranspose2d(8, 4, 2, groups=2), "head": nn.Linear(5, 3)}
    )
    found = {name: site.fan_in for name, site in weight_sites(network, expose=lambda site: True).items()}
    inputs = {"plain": 36, "up": 16, "head": 5}
    assert found == {f"{layer}.{leaf}": count for layer, count in inputs.items() for leaf in ("weight", "bias")}


def test_keys_of_modules_have_no_dots_and_differ_where_names_do() -> None:
    names = ["a.b", "a/b", "a b", "a%2Eb", "a", "", "ä", "a:b", "a~b", "a_b"]
    keys = [module_key(name) for name in names]
    assert len(set(keys)) == len(names)
    assert not any("." in key or "/" in key for key in keys)
    assert [unquote(key) for key in keys] == names
