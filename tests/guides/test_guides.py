import math

import pyro
import pytest
import torch
from torch import nn

from guides import Guide, MeanField, Point
from models.segmentation import SegmentationModel
from pyro_dwp.errors import ConfigError
from pyro_dwp.infer import AuxiliaryELBO
from pyro_dwp.likelihoods import Categorical
from pyro_dwp.nn import UNet
from pyro_dwp.priors import Gaussian
from pyro_dwp.sites import weight_sites
from pyro_dwp.train import draw_network


def network_and_start(ndim: int = 3) -> tuple[UNet, dict, dict]:
    network = UNet(channels=(2, 4), ndim=ndim)
    sites = weight_sites(network)
    return network, sites, {name: network.get_parameter(name).detach() for name in sites}


@pytest.mark.parametrize("guide_class", [MeanField, Point])
def test_every_guide_samples_each_site_once_in_its_shape(guide_class: type[Guide]) -> None:
    _, sites, start = network_and_start()
    trace = pyro.poutine.trace(guide_class(sites, start)).get_trace()
    sampled = {name: node["value"].shape for name, node in trace.nodes.items() if node["type"] == "sample"}
    assert sampled == {name: site.shape for name, site in sites.items()}


@pytest.mark.parametrize("guide_class", [MeanField, Point])
def test_every_guide_survives_a_state_dict_round_trip(guide_class: type[Guide]) -> None:
    _, sites, start = network_and_start()
    first = guide_class(sites, start)
    second = guide_class(sites, {name: torch.randn_like(value) for name, value in start.items()})
    second.load_state_dict(first.state_dict())
    for name in sites:
        pyro.set_rng_seed(1)
        expected = first.distribution(name).sample()
        pyro.set_rng_seed(1)
        assert torch.equal(second.distribution(name).sample(), expected)


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_point_guide_reproduces_the_plain_network_bit_for_bit(ndim: int, device: torch.device) -> None:
    network, sites, start = network_and_start(ndim)
    model = SegmentationModel(network, Gaussian(), Categorical()).to(device)
    image = torch.randn(2, 1, *(9, 8, 12)[:ndim], device=device)
    drawn = draw_network(model.network, Point(sites, start).to(device))
    assert torch.equal(drawn(image), network.to(device)(image))


def test_training_a_point_guide_without_prior_is_training_the_plain_network() -> None:
    network, sites, start = network_and_start(2)
    model = SegmentationModel(network, Gaussian(), Categorical())
    guide = Point(sites, start)
    image, label = torch.randn(2, 1, 8, 8), torch.randint(0, 2, (2, 8, 8))
    AuxiliaryELBO(kl_weight=0.0).differentiable_loss(model, guide, image, label).backward()
    nn.functional.cross_entropy(network(image), label, reduction="sum").backward()
    for name in sites:
        torch.testing.assert_close(guide.parameter("value", name).grad, network.get_parameter(name).grad)
    torch.testing.assert_close(model.network.network.final_conv.weight.grad, network.final_conv.weight.grad)


def test_the_mean_fields_scale_starts_relative_to_the_weights() -> None:
    _, sites, start = network_and_start()
    guide = MeanField(sites, start, relative_scale=0.2)
    for name in sites:
        normal = guide.distribution(name).base_dist
        torch.testing.assert_close(normal.loc, start[name])
        expected = 0.2 * start[name].square().mean().sqrt().item()
        assert normal.scale.unique().tolist() == pytest.approx([expected], rel=1e-5)


def test_the_mean_fields_entropy_is_the_gaussians() -> None:
    _, sites, start = network_and_start()
    guide = MeanField(sites, start)
    for name, site in sites.items():
        scale = guide.distribution(name).base_dist.scale.flatten()[0].item()
        expected = site.shape.numel() * (0.5 * math.log(2 * math.pi * math.e) + math.log(scale))
        assert guide.distribution(name).entropy().item() == pytest.approx(expected, rel=1e-4)


def test_a_start_that_does_not_fit_and_a_scale_that_is_not_positive_are_refused() -> None:
    _, sites, start = network_and_start()
    with pytest.raises(ConfigError, match="received none"):
        Point(sites, {})
    with pytest.raises(ConfigError, match=r"init_conv.weight.*received \(1,\)"):
        MeanField(sites, start | {"init_conv.weight": torch.zeros(1)})
    with pytest.raises(ConfigError, match="relative_scale"):
        MeanField(sites, start, relative_scale=0.0)
    with pytest.raises(ConfigError, match="all 0"):
        MeanField(sites, {name: torch.zeros_like(value) for name, value in start.items()})


def test_a_guide_without_a_distribution_cannot_be_built() -> None:
    class Unfinished(Guide):
        pass

    _, sites, start = network_and_start()
    with pytest.raises(TypeError, match="distribution"):
        Unfinished(sites, start)
