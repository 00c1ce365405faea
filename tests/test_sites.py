import pytest
import torch
from torch import nn

from pyro_dwp.errors import ConfigError
from pyro_dwp.nn import UNet
from pyro_dwp.sites import LiftedNetwork, weight_sites


def test_the_papers_network_has_nineteen_sites_with_26640_kernels() -> None:
    sites = weight_sites(UNet())
    assert len(sites) == 19
    assert sum(site.num_kernels for site in sites.values()) == 26_640
    assert all(site.kernel_shape == (3, 3, 3) for site in sites.values())


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_lifted_network_on_the_networks_own_weights_is_the_network(ndim: int, device: torch.device) -> None:
    network = UNet(channels=(4, 8), ndim=ndim).to(device)
    lifted = LiftedNetwork(network, weight_sites(network)).to(device)
    image = torch.randn(2, 1, *(10, 8, 12)[:ndim], device=device)
    weights = {name: network.get_parameter(name) for name in lifted.sites}
    assert torch.equal(lifted(weights, image), network(image))


def test_lifting_leaves_the_network_unchanged() -> None:
    network = UNet(channels=(4, 8))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    LiftedNetwork(network, weight_sites(network))
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_what_is_no_site_stays_a_parameter_of_the_lifted_network() -> None:
    network = UNet()
    lifted = LiftedNetwork(network, weight_sites(network))
    assert sum(p.numel() for p in lifted.parameters()) == 726_480 - 27 * 26_640
    assert set(lifted.state_dict()) == {f"network.{n}" for n in network.state_dict() if n not in lifted.sites}


def test_gradients_reach_the_given_weights() -> None:
    network = UNet(channels=(2, 4), ndim=2)
    lifted = LiftedNetwork(network, weight_sites(network))
    weights = {n: network.get_parameter(n).detach().clone().requires_grad_() for n in lifted.sites}
    lifted(weights, torch.randn(1, 1, 8, 8)).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in weights.values())


def test_a_missing_or_misshapen_weight_names_the_site_and_both_shapes() -> None:
    network = UNet(channels=(2, 4), ndim=2)
    lifted = LiftedNetwork(network, weight_sites(network))
    weights = {name: network.get_parameter(name) for name in lifted.sites}
    with pytest.raises(ConfigError, match=r"\(2, 1, 3, 3\) at site 'init_conv.weight', but received \(1, 1, 3, 3\)"):
        lifted(weights | {"init_conv.weight": torch.zeros(1, 1, 3, 3)}, torch.zeros(1, 1, 8, 8))
    with pytest.raises(ConfigError, match="received none"):
        lifted({}, torch.zeros(1, 1, 8, 8))


def test_a_network_without_groups_has_one_for_each_kernel_shape() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ConvTranspose2d(2, 2, 2), nn.Conv2d(2, 2, 1), nn.Linear(2, 2))
    sites = weight_sites(network)
    assert {name: site.group for name, site in sites.items()} == {"0.weight": "3x3", "1.weight": "2x2"}


def test_networks_without_kernels_and_wrong_groups_are_refused() -> None:
    with pytest.raises(ConfigError, match="more than one voxel"):
        weight_sites(nn.Conv3d(1, 1, 1))
    with pytest.raises(ConfigError, match="has none"):
        weight_sites(nn.Sequential(nn.Conv2d(1, 1, 3)), groups={})
    with pytest.raises(ConfigError, match=r"Did you mean '0.weight'"):
        weight_sites(nn.Sequential(nn.Conv2d(1, 1, 3)), groups={"0.weight": "1", "0.weigth": "1"})


def test_the_inputs_of_a_layer_are_counted_for_plain_transposed_and_linear_layers_and_their_biases() -> None:
    network = nn.ModuleDict(
        {"plain": nn.Conv2d(8, 4, 3, groups=2), "up": nn.ConvTranspose2d(8, 4, 2, groups=2), "head": nn.Linear(5, 3)}
    )
    found = {name: site.fan_in for name, site in weight_sites(network, expose=lambda site: True).items()}
    inputs = {"plain": 36, "up": 16, "head": 5}
    assert found == {f"{layer}.{leaf}": count for layer, count in inputs.items() for leaf in ("weight", "bias")}
