"""What every guide promises."""

import math

import pytest
import torch
from torch import nn

from guides import Auto, ChannelCovariance, Dropout, Ensemble, KernelCovariance, LowRank, MeanField, Point
from models.segmentation import SegmentationModel
from pyro_dwp.errors import ConfigError
from pyro_dwp.infer import AuxiliaryELBO, check_guide
from pyro_dwp.likelihoods import Categorical
from pyro_dwp.priors import Assigned, Gaussian, Rule
from pyro_dwp.sites import weight_sites
from pyro_dwp.train import draw_network
from pyro_dwp.transfer import start_function
from tests.helpers.guides import GUIDES, assert_same_draws, make, started, unet
from tests.helpers.monte_carlo import assert_mean
from tests.helpers.refusal import refuses

SCALED = [MeanField, KernelCovariance, LowRank, ChannelCovariance, Auto]


@pytest.mark.parametrize("guide_class", [make for make in GUIDES.values() if make is not Dropout])
def test_every_guide_draws_each_site_once_around_its_start_with_the_distribution_it_tells(guide_class, sites, start):
    """150 draws; the relative standard error of a Gaussian's sample variance is sqrt(2 / 150) = 0.12."""
    guide = started(guide_class(sites), start)
    check_guide(sites, Gaussian(), guide)
    with torch.no_grad():
        draws = [guide() for _ in range(150)]
    every = torch.cat([value.flatten() for value in start.values()])
    for name, site in sites.items():
        q = guide.distribution(name)
        torch.testing.assert_close(q.mean, start[name])
        assert q.variance.sqrt().max() < 0.3 * every.square().mean().sqrt()  # 0.1 at each site, of sizes that differ
        assert q.batch_shape == ()
        assert q.event_shape == q.sample().shape == site.shape
        drawn = torch.stack([draw[name] for draw in draws])
        assert_mean(drawn, q.mean, within=0.05, bias=1e-6, errors=5.0)
        assert ((drawn.var(0) - q.variance).abs() <= 0.6 * q.variance + 1e-9).all()


def test_every_guide_is_built_empty_without_random_numbers_and_filled_by_a_state(guide_class, sites, start):
    first, state = started(guide_class(sites), start), torch.get_rng_state()
    second = guide_class(sites)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.isnan().all() for parameter in second.parameters())
    second.load_state_dict(first.state_dict())
    assert_same_draws(first, second)


def test_every_guide_takes_the_precision_and_the_device_of_its_start(guide_class, sites, start, device):
    guide = started(guide_class(sites), {name: value.double().to(device) for name, value in start.items()})
    for values in (guide.parameters(), guide().values(), [guide.distribution(name).mean for name in sites]):
        assert {(value.dtype, value.device.type) for value in values} == {(torch.float64, device.type)}


@pytest.mark.parametrize("family", SCALED)
def test_a_scale_or_a_start_that_gives_no_width_is_refused(family: type) -> None:
    for scale in (0.0, -1.0, math.nan, math.inf):
        with refuses(family.__name__, "relative_scale", str(scale), error=ConfigError):
            family({}, relative_scale=scale)
    guide = make(family, {"w": torch.ones(2, 3)})
    starts = {
        "all 0" if family is not Auto else "all sites": {"w": torch.zeros(2, 3)},
        "not finite": {"w": torch.full((2, 3), torch.nan)},
        "(1,)": {"w": torch.ones(1)},
        "none": {},
    }
    for named, start in starts.items():
        with refuses(family.__name__, named, error=ConfigError):
            started(guide, start)


@pytest.mark.parametrize("value", [0, 10**9])
@pytest.mark.parametrize(("family", "name"), [(Ensemble, "members"), (LowRank, "rank")])
def test_an_impossible_number_of_members_or_directions_is_refused(family: type, name: str, value: int) -> None:
    with refuses(f"{family.__name__}: {name} is {value}", error=ConfigError):
        family({}, **{name: value})


def test_biases_that_start_at_0_are_refused_with_both_cures_and_each_of_them_works() -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Conv2d(3, 2, 3))
    for layer in network:
        nn.init.zeros_(layer.bias)
    everything = Assigned([Rule(Gaussian())])

    def start(kind: str, prior: Assigned) -> None:
        sites = weight_sites(network, expose=prior.exposes)
        MeanField(sites).start(start_function(kind, sites, network, prior), prior)

    with refuses("'0.bias'", "--start prior", "prior: null", error=ConfigError):
        start("random", everything)
    start("prior", everything)
    start("random", Assigned([Rule(None, name="*.bias"), Rule(Gaussian())]))


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_point_guide_reproduces_the_plain_network_bit_for_bit(ndim: int, device: torch.device) -> None:
    network, sites, start = unet(ndim)
    model = SegmentationModel(network, Gaussian(), Categorical()).to(device)
    image = torch.randn(2, 1, *(9, 8, 12)[:ndim], device=device)
    drawn = draw_network(model.network, started(Point(sites), start).to(device))
    assert torch.equal(drawn(image), network.to(device)(image))


def test_training_a_point_guide_without_prior_is_training_the_plain_network() -> None:
    network, sites, start = unet(2)
    model, guide = SegmentationModel(network, Gaussian(), Categorical()), started(Point(sites), start)
    image, label = torch.randn(2, 1, 8, 8), torch.randint(0, 2, (2, 8, 8))
    AuxiliaryELBO(kl_weight=0.0).differentiable_loss(model, guide, image, label).backward()
    nn.functional.cross_entropy(network(image), label, reduction="sum").backward()
    for name in sites:
        torch.testing.assert_close(guide.parameter("value", name).grad, network.get_parameter(name).grad)
    torch.testing.assert_close(model.network.network.final_conv.weight.grad, network.final_conv.weight.grad)
