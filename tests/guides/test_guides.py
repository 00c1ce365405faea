import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI
from torch import nn

import guides
from guides import Ensemble, Guide, KernelCovariance, LowRank, MatrixNormal, MeanField, Point
from models.segmentation import SegmentationModel
from pyro_dwp.errors import ConfigError
from pyro_dwp.infer import AuxiliaryELBO
from pyro_dwp.likelihoods import Categorical
from pyro_dwp.nn import UNet
from pyro_dwp.priors import Assigned, Gaussian, Rule
from pyro_dwp.sites import WeightSite, weight_sites
from pyro_dwp.train import JointAdam, draw_network
from pyro_dwp.transfer import start_weights


def network_and_start(ndim: int = 3) -> tuple[UNet, dict, dict]:
    network = UNet(channels=(2, 4), ndim=ndim)
    sites = weight_sites(network)
    return network, sites, {name: network.get_parameter(name).detach() for name in sites}


def test_every_guide_samples_each_site_once_in_its_shape(guide_class, sites: dict, start: dict) -> None:
    guide = guide_class(sites, start)
    with torch.no_grad():
        trace = pyro.poutine.trace(guide).get_trace(torch.zeros(()), label=None)
    sampled = {name: node["value"] for name, node in trace.nodes.items() if name in sites}
    assert {name: value.shape for name, value in sampled.items()} == {name: site.shape for name, site in sites.items()}
    others = [node for name, node in trace.nodes.items() if node["type"] == "sample" and name not in sites]
    assert all(node["infer"]["is_auxiliary"] for node in others)
    returned = trace.nodes["_RETURN"]["value"]
    assert all(torch.equal(returned[name], sampled[name]) for name in sites)


def test_every_guide_starts_around_the_start_weights(guide_class, sites: dict, start: dict) -> None:
    guide = guide_class(sites, start)
    first = guide.member(0) if isinstance(guide, Ensemble) else guide
    every = torch.cat([value.flatten() for value in start.values()])
    for name in sites:
        q = first.distribution(name)
        torch.testing.assert_close(q.mean, start[name])
        assert q.variance.sqrt().max() < 0.3 * every.square().mean().sqrt()  # 0.1 at each site, of sizes that differ


def test_every_guides_site_has_the_distribution_it_tells(guide_class, sites: dict, start: dict) -> None:
    guide = guide_class(sites, start)
    for name, site in sites.items():
        q = guide.distribution(name)
        assert q.batch_shape == ()
        assert q.event_shape == q.sample().shape == site.shape
    with torch.no_grad():
        draws = [guide() for _ in range(150)]
    for name in sites:
        q = guide.distribution(name)
        drawn = torch.stack([draw[name] for draw in draws])
        assert ((drawn.mean(0) - q.mean).abs() <= 5 * (q.variance / len(draws)).sqrt() + 1e-6).all()
        # the relative standard error of a Gaussian's sample variance is sqrt(2 / 150) = 0.12
        assert ((drawn.var(0) - q.variance).abs() <= 0.6 * q.variance + 1e-9).all()


def test_every_guide_survives_a_state_dict_round_trip(guide_class, sites: dict, start: dict) -> None:
    first = guide_class(sites, start)
    second = guide_class(sites, {name: torch.randn_like(value) for name, value in start.items()})
    second.load_state_dict(first.state_dict())
    drawn = []
    for guide in (first, second):
        pyro.set_rng_seed(1)
        drawn.append(guide())
    assert all(torch.equal(drawn[0][name], drawn[1][name]) for name in sites)


@pytest.mark.parametrize("how", ["moved", "built"])
def test_every_guide_works_in_double_precision(guide_class, sites: dict, start: dict, how: str) -> None:
    if how == "moved":
        guide = guide_class(sites, start).double()
    else:
        guide = guide_class(sites, {name: value.double() for name, value in start.items()})
    assert {parameter.dtype for parameter in guide.parameters()} == {torch.float64}
    assert {value.dtype for value in guide().values()} == {torch.float64}
    assert {guide.distribution(name).mean.dtype for name in sites} == {torch.float64}


def test_every_guide_is_on_its_device(guide_class, sites: dict, start: dict, device: torch.device) -> None:
    for guide in (
        guide_class(sites, start).to(device),
        guide_class(sites, {name: value.to(device) for name, value in start.items()}),
    ):
        assert {value.device.type for value in guide().values()} == {device.type}


def test_every_guide_learns_from_the_elbo(guide_class, sites: dict, start: dict) -> None:
    guide = guide_class(sites, start)
    inputs = {name: torch.randn(site.shape) for name, site in sites.items()}

    def model() -> None:
        weights = {
            name: pyro.sample(name, dist.Normal(torch.zeros(site.shape), 0.1).to_event(len(site.shape)))
            for name, site in sites.items()
        }
        total = sum((weights[name] * inputs[name]).sum() for name in sites)
        pyro.sample("y", dist.Normal(total, 0.5), obs=torch.tensor(1.0))

    before = {name: parameter.detach().clone() for name, parameter in guide.named_parameters()}
    svi = SVI(model, guide, JointAdam({"theta": [guide]}, 1e-3), AuxiliaryELBO(num_particles=2))
    losses = [svi.step() for _ in range(8)]
    assert all(map(math.isfinite, losses))
    for name, parameter in guide.named_parameters():
        if parameter.numel() > 1:  # a 1 × 1 factor of determinant 1 has nothing to learn
            assert not torch.equal(parameter, before[name]), name


@pytest.mark.parametrize(
    "family",
    [MeanField, KernelCovariance, LowRank, MatrixNormal, guides.auto.AutoNormal, guides.auto.AutoDiagonalNormal],
)
def test_what_gives_a_guide_no_width_is_refused(family: type[Guide], sites: dict, start: dict) -> None:
    with pytest.raises(ConfigError, match=f"{family.__name__} .*all 0"):
        family(sites, {name: torch.zeros_like(value) for name, value in start.items()})
    with pytest.raises(ConfigError, match=f"{family.__name__} needs a positive relative_scale"):
        family(sites, start, relative_scale=0.0)


def test_biases_that_start_at_0_are_refused_with_both_cures_and_each_of_them_works() -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Conv2d(3, 2, 3))
    for layer in network:
        nn.init.zeros_(layer.bias)
    everything = Assigned([Rule(Gaussian())])
    sites = weight_sites(network, expose=everything.exposes)
    with pytest.raises(
        ConfigError, match=r"'0\.bias'.*all 0.*--start prior.*--prior assigned; {name: '\*\.bias', prior: null}"
    ):
        MeanField(sites, start_weights("random", sites, network, everything))
    MeanField(sites, start_weights("prior", sites, network, everything))
    kernels = weight_sites(network, expose=Assigned([Rule(None, name="*.bias"), *everything.rules]).exposes)
    MeanField(kernels, start_weights("random", kernels, network, everything))


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


def test_a_start_that_does_not_fit_is_refused() -> None:
    _, sites, start = network_and_start()
    with pytest.raises(ConfigError, match="received none"):
        Point(sites, {})
    with pytest.raises(ConfigError, match=r"init_conv.weight.*received \(1,\)"):
        MeanField(sites, start | {"init_conv.weight": torch.zeros(1)})


def test_a_guide_without_a_distribution_cannot_be_built() -> None:
    class Unfinished(Guide):
        pass

    _, sites, start = network_and_start()
    with pytest.raises(TypeError, match="distribution"):
        Unfinished(sites, start)


class Loose(MeanField):
    """Forgets to declare its events."""

    def distribution(self, name: str) -> dist.Normal:
        return dist.Normal(self.parameter("mean", name), 0.1)


def test_a_guide_of_another_shape_than_the_sites_is_refused_with_the_cure() -> None:
    site = WeightSite("w", torch.Size([2, 3, 3, 3]), "1")
    with pytest.raises(ConfigError, match=r"Loose.distribution\('w'\).*to_event"):
        Loose({"w": site}, {"w": torch.ones(site.shape)})()
