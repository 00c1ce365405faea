import math
from pathlib import Path

import pytest
import torch

from pyro_dwp.errors import CheckpointError, ConfigError
from pyro_dwp.files import write_tensors
from pyro_dwp.nn import UNet
from pyro_dwp.priors import Gaussian
from pyro_dwp.sites import weight_sites
from pyro_dwp.transfer import load_network, save_network, scale_parameters, start_function
from tests.helpers.guides import moved
from tests.helpers.refusal import refuses


def test_a_saved_network_is_read_back_bit_for_bit_with_its_facts(tmp_path: Path) -> None:
    network, other = UNet(channels=(2, 4)), UNet(channels=(2, 4))
    save_network(tmp_path / "a.safetensors", network, {"dice": 0.5})
    assert load_network(tmp_path / "a.safetensors", other) == {"dice": 0.5}
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), other.parameters(), strict=True))


FIRST = "init_conv.weight"
CHANGES = {
    "integers": (lambda state: {name: value.long() for name, value in state.items()}, [FIRST, "integer"]),
    "complex": (lambda state: {name: value.cfloat() for name, value in state.items()}, [FIRST, "complex"]),
    "surplus": (lambda state: state | {"extra": torch.zeros(1)}, ["extra"]),
    "missing": (lambda state: {name: value for name, value in state.items() if "up1" not in name}, ["up1", "absent"]),
    "shape": (lambda state: state | {FIRST: torch.zeros(3, 1, 3, 3, 3)}, ["(2, 1, 3, 3, 3)", "(3, 1, 3, 3, 3)"]),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_network_that_does_not_fit_or_is_missing_is_refused_and_nothing_filled(kind: str, tmp_path: Path) -> None:
    change, tokens = CHANGES[kind]
    network = UNet(channels=(2, 4))
    path = write_tensors(tmp_path / "a.safetensors", "network", change(UNet(channels=(2, 4)).state_dict()), {})

    def load() -> None:
        with refuses("a.safetensors", "UNet", *tokens, error=CheckpointError):
            load_network(path, network)
        with refuses("none.safetensors", error=CheckpointError):
            load_network(tmp_path / "none.safetensors", network)

    assert moved([network], load) == [[]]


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
