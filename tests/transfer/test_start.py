from pathlib import Path

import pyro.distributions as dist
import pytest
import torch

from pyro_dwp.errors import CheckpointError, ConfigError
from pyro_dwp.nn import UNet
from pyro_dwp.priors import Assigned, Gaussian, Pretrained, PriorFamily, Rule
from pyro_dwp.sites import WeightSite, weight_sites
from pyro_dwp.transfer import load_network, save_network, scale_parameters, start_weights


def test_a_saved_network_is_read_back_bit_for_bit_with_its_facts(tmp_path: Path) -> None:
    network, other = UNet(channels=(2, 4)), UNet(channels=(2, 4))
    save_network(tmp_path / "a.safetensors", network, {"dice": 0.5})
    assert load_network(tmp_path / "a.safetensors", other) == {"dice": 0.5}
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), other.parameters(), strict=True))


def test_a_network_of_another_architecture_is_refused_with_both_shapes(tmp_path: Path) -> None:
    save_network(tmp_path / "a.safetensors", UNet(channels=(2, 4)), {})
    other = UNet(channels=(3, 4))
    before = [p.clone() for p in other.parameters()]
    with pytest.raises(CheckpointError, match=r"a.safetensors.*init_conv.weight.*\(3, 1, 3, 3, 3\).*\(2, 1, 3, 3, 3\)"):
        load_network(tmp_path / "a.safetensors", other)
    assert all(torch.equal(a, b) for a, b in zip(before, other.parameters(), strict=True))


def test_a_missing_network_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        load_network(tmp_path / "none.safetensors", UNet(channels=(2, 4)))


def test_scaling_multiplies_every_parameter() -> None:
    network = UNet(channels=(2, 4))
    before = [p.detach().clone() for p in network.parameters()]
    scale_parameters(network, 0.5)
    assert all(torch.equal(0.5 * a, b) for a, b in zip(before, network.parameters(), strict=True))
    with pytest.raises(ConfigError, match="positive"):
        scale_parameters(network, 0.0)


@pytest.mark.parametrize("start", ["random", "source"])
def test_a_start_from_a_network_is_a_copy_of_its_weights(start: str) -> None:
    network = UNet(channels=(2, 4))
    sites = weight_sites(network)
    weights = start_weights(start, sites, network, Gaussian())
    for name in sites:
        assert torch.equal(weights[name], network.get_parameter(name))
        assert weights[name].data_ptr() != network.get_parameter(name).data_ptr()
        assert not weights[name].requires_grad


def test_a_start_from_the_prior_has_the_priors_scale() -> None:
    network = UNet()
    sites = weight_sites(network)
    weights = start_weights("prior", sites, network, Gaussian(scale=0.03))
    pooled = torch.cat([weights[name].flatten() for name in sites])
    assert pooled.std().item() == pytest.approx(0.03, rel=0.01)


def test_an_unknown_start_lists_the_legal_ones() -> None:
    network = UNet(channels=(2, 4))
    with pytest.raises(ConfigError, match="prior, random, source"):
        start_weights("sorce", weight_sites(network), network, Gaussian())


class Broken(PriorFamily):
    def distribution(self, site: WeightSite) -> dist.TorchDistribution:
        return dist.Normal(torch.zeros(site.kernel_shape), torch.inf).to_event(len(site.kernel_shape))


def test_a_draw_of_the_prior_that_is_not_finite_is_refused_with_class_site_and_group() -> None:
    network = UNet(channels=(2, 4))
    with pytest.raises(ConfigError, match=r"prior Broken at site 'init_conv.weight' \(group '1'\).*--start random"):
        start_weights("prior", weight_sites(network), network, Broken())


@pytest.mark.parametrize("start", ["random", "source"])
def test_a_network_that_is_not_finite_is_refused_with_site_and_group(start: str) -> None:
    network = UNet(channels=(2, 4))
    with torch.no_grad():
        network.get_parameter("up1.conv_1.weight")[0, 0, 0, 0, 0] = torch.nan
    with pytest.raises(ConfigError, match=r"UNet to start from .* site 'up1.conv_1.weight' \(group '3'\)"):
        start_weights(start, weight_sites(network), network, Gaussian())


def test_kernels_have_places_in_a_source_network_and_in_draws_around_one(tmp_path: Path) -> None:
    network = UNet(channels=(2, 4))
    sites = weight_sites(network)
    save_network(tmp_path / "a.safetensors", network, {})
    around = Pretrained(str(tmp_path / "a.safetensors"))
    mixed = Assigned([Rule(around, name="up*"), Rule(Gaussian(), kernel_size=3)])
    assert start_weights("source", sites, network, Gaussian()).placed == set(sites)
    assert start_weights("prior", sites, network, around).placed == set(sites)
    assert start_weights("prior", sites, network, mixed).placed == {name for name in sites if name.startswith("up")}
    assert start_weights("prior", sites, network, Gaussian()).placed == set()
    assert start_weights("random", sites, network, around).placed == set()
