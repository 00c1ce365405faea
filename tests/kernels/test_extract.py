import pytest
import torch

from pyro_dwp.errors import ConfigError, DataError
from pyro_dwp.kernels.extract import collect_kernels, network_kernels
from pyro_dwp.nn.unet import UNet
from tests.helpers.refusal import refuses


def test_the_papers_network_gives_26640_kernels_in_seven_groups_of_named_layers():
    network = UNet()
    found = network_kernels(network, network.kernel_groups(), minimum_norm=0.0)
    assert found.layers["1"] == ["init_conv.weight", "down1.conv_1.weight"]
    counts = {group: len(kernels) for group, kernels in found.kernels.items()}
    assert sum(counts.values()) == 26_640
    assert len(counts) == 7


@pytest.mark.parametrize("ndim", [2, 3])
def test_each_kernel_of_a_layer_is_found_once(ndim):
    network = UNet(channels=(3, 4), ndim=ndim)
    found = network_kernels(network, network.kernel_groups(), minimum_norm=0.0)
    assert found.kernels.keys() == set(network.kernel_groups().values())
    for group, kernels in found.kernels.items():
        weights = [network.get_parameter(name).flatten(0, 1) for name in found.layers[group]]
        assert torch.equal(kernels, torch.cat(weights).detach())


def test_tiny_kernels_are_left_out_and_counted():
    weight = torch.zeros(2, 2, 3, 3, 3)
    weight[0, 0, 0, 0, 0], weight[0, 1, 0, 0, 0], weight[1, 0, 1, 1, 1] = 0.011, 0.009, -5.0
    found = network_kernels({"a": weight}, {"a": "1"})
    assert (found.left_out, len(found.kernels["1"])) == ({"1": 2}, 2)
    twice = collect_kernels([("a", {"a": weight}), ("b", {"a": weight})], {"a": "1"})
    assert twice.metadata["left_out"] == {"1": 4}


@pytest.mark.parametrize(
    ("weight", "groups", "settings", "error", "token"),
    [
        (torch.ones(1, 1, 3, 3), {"b": "1"}, {}, DataError, "'b'"),
        (torch.full((1, 1, 3, 3), torch.inf), {"a": "1"}, {}, DataError, "'a'"),
        (torch.zeros(2, 2, 3, 3), {"a": "1"}, {}, DataError, "All 4 kernels of group '1'"),
        (torch.ones(2, 2, 3, 3), {"a": "1"}, {"minimum_norm": -1.0}, ConfigError, "minimum_norm"),
        (torch.ones(2, 2, 3, 3), {"a": "1"}, {"minimum_norm": torch.nan}, ConfigError, "minimum_norm"),
        (None, {"a": "1"}, {}, DataError, "none"),
    ],
)
def test_networks_without_kernels_to_use_are_refused(weight, groups, settings, error, token):
    with refuses(token, error=error):
        collect_kernels([] if weight is None else [("network", {"a": weight})], groups, **settings)


def test_snapshots_of_one_network_share_an_index_and_may_be_filled_one_after_another_in_the_same_module():
    network = torch.nn.Conv2d(1, 2, 3)

    def snapshots():
        for value, name in enumerate("aba", 1):
            torch.nn.init.constant_(network.weight, value)
            yield name, network

    bank = collect_kernels(snapshots(), {"weight": "1"}, provenance={"run": "x"})
    assert bank.kernels["1"][:, 0, 0].tolist() == [1.0, 1.0, 2.0, 2.0, 3.0, 3.0]
    assert bank.sources["1"].tolist() == [0, 0, 1, 1, 0, 0]
    facts = {"networks": ["a", "b"], "snapshots": 3, "provenance": {"run": "x"}}
    assert facts.items() <= bank.metadata.items()
