import pytest
import torch

from pyro_dwp.errors import DataError
from pyro_dwp.kernels.extract import collect_kernels, network_kernels, snapshot_files
from pyro_dwp.nn.unet import UNet


def test_the_papers_network_gives_26640_kernels_in_seven_groups():
    network = UNet()
    found = network_kernels(network, network.kernel_groups(), minimum_norm=0.0)
    counts = {group: len(kernels) for group, kernels in found.kernels.items()}
    assert sum(counts.values()) == 26_640
    assert len(counts) == 7


@pytest.mark.parametrize("ndim", [2, 3])
def test_each_kernel_of_a_layer_is_found_once(ndim):
    network = UNet(channels=(3, 4), ndim=ndim)
    groups = network.kernel_groups()
    found = network_kernels(network, groups, minimum_norm=0.0)
    for group, kernels in found.kernels.items():
        weights = [network.get_parameter(name).flatten(0, 1) for name in groups if groups[name] == group]
        assert torch.equal(kernels, torch.cat(weights).detach())


def test_tiny_kernels_are_left_out_and_counted():
    weight = torch.zeros(2, 2, 3, 3, 3)
    weight[0, 0, 0, 0, 0], weight[0, 1, 0, 0, 0], weight[1, 0, 1, 1, 1] = 0.011, 0.009, -5.0
    found = network_kernels({"a": weight}, {"a": "1"})
    assert found.left_out == {"1": 2}
    assert len(found.kernels["1"]) == 2


def test_the_layers_of_each_group_are_named():
    network = UNet(channels=(3, 4))
    assert network_kernels(network, network.kernel_groups()).layers["1"] == ["init_conv.weight", "down1.conv_1.weight"]


def test_a_missing_layer_is_named():
    with pytest.raises(DataError, match=r"no weight 'conv_9'.*Did you mean 'conv_1'"):
        network_kernels({"conv_1": torch.ones(1, 1, 3, 3)}, {"conv_9": "1"})


def test_a_diverged_network_is_refused():
    with pytest.raises(DataError, match="'a' holds values that are not finite"):
        network_kernels({"a": torch.full((1, 1, 3, 3), torch.inf)}, {"a": "1"})


def test_snapshots_of_one_network_share_an_index():
    weights = {"a": torch.ones(2, 1, 3, 3)}
    bank = collect_kernels([("a", weights), ("b", weights), ("a", weights)], {"a": "1"}, provenance={"run": "x"})
    assert bank.sources["1"].tolist() == [0, 0, 1, 1, 0, 0]
    assert bank.metadata["networks"] == ["a", "b"]
    assert bank.metadata["snapshots"] == 3
    assert bank.metadata["provenance"] == {"run": "x"}


def test_kernels_left_out_are_summed_over_networks():
    weights = {"a": torch.cat([torch.ones(2, 1, 3, 3), torch.zeros(3, 1, 3, 3)])}
    assert collect_kernels([("a", weights), ("b", weights)], {"a": "1"}).metadata["left_out"] == {"1": 6}


def test_a_group_of_nothing_but_tiny_kernels_is_an_error():
    with pytest.raises(DataError, match="All 4 kernels of group '1'"):
        collect_kernels([("a", {"a": torch.zeros(2, 2, 3, 3)})], {"a": "1"})


def test_no_network_is_an_error():
    with pytest.raises(DataError, match="received none"):
        collect_kernels([], {"a": "1"})


def test_networks_may_be_filled_one_after_another_in_the_same_module():
    network = torch.nn.Conv2d(1, 2, 3)

    def snapshots():
        for value in (1.0, 2.0):
            torch.nn.init.constant_(network.weight, value)
            yield str(value), network

    assert collect_kernels(snapshots(), {"weight": "1"}).kernels["1"][:, 0, 0].tolist() == [1.0, 1.0, 2.0, 2.0]


def test_a_source_run_without_networks_names_the_folder_and_the_cure(tmp_path):
    with pytest.raises(DataError, match=r"networks does not exist.*train_source"):
        snapshot_files(tmp_path)
    (tmp_path / "networks").mkdir()
    with pytest.raises(DataError, match=r"networks holds no network.*--resume"):
        snapshot_files(tmp_path)


def test_snapshots_are_found_in_order(tmp_path):
    (tmp_path / "networks").mkdir()
    for name in ("b.safetensors", "a.safetensors", "notes.txt"):
        (tmp_path / "networks" / name).touch()
    assert [path.name for path in snapshot_files(tmp_path)] == ["a.safetensors", "b.safetensors"]
