"""The prior around a source network's weights: what it takes from the file, its density, and what it refuses."""

import math
from pathlib import Path

import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from guides import MeanField
from pyro_dwp.cli import instantiate
from pyro_dwp.errors import CheckpointError, ConfigError
from pyro_dwp.infer.divergence import site_kl
from pyro_dwp.kernels.tensor_file import write_tensor_file
from pyro_dwp.nn import UNet
from pyro_dwp.priors import Pretrained, PriorFamily
from pyro_dwp.sites import weight_sites
from pyro_dwp.transfer import save_network


class Biased(nn.Module):
    """A network with every kind of parameter and a buffer that is no number with a fraction."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([2.0]))
        self.body = nn.Sequential(nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4), nn.ConvTranspose3d(4, 2, 2))
        self.head = nn.Linear(2, 3)


def saved(folder: Path, network: nn.Module) -> str:
    path = folder / "networks" / "network-00-cycle-0.safetensors"
    save_network(path, network, {"dice": 0.9})
    return str(path)


def node(fn: dist.TorchDistribution) -> dict:
    return {"fn": fn, "value": fn.rsample(), "scale": 1.0, "mask": None}


@pytest.mark.parametrize("network", [UNet(channels=(2, 4), ndim=2), UNet(channels=(2, 4), ndim=3), Biased()])
def test_every_parameter_has_a_gaussian_around_its_source_weights(tmp_path: Path, network: nn.Module) -> None:
    family = Pretrained(saved(tmp_path, network), scale=0.2)
    for name, site in weight_sites(network, expose=lambda _: True).items():
        prior, source = family.site_distribution(site), network.get_parameter(name).detach()
        w = prior.sample()
        assert w.shape == prior.event_shape == site.shape
        torch.testing.assert_close(prior.mean, source)
        torch.testing.assert_close(prior.log_prob(w), Normal(source, 0.2).log_prob(w).sum())


def test_by_default_a_weight_varies_as_much_as_the_layers_weights_are_large(tmp_path: Path) -> None:
    network = UNet(channels=(2, 4))
    path = saved(tmp_path, network)
    for name, site in weight_sites(network).items():
        size = network.get_parameter(name).detach().square().mean().sqrt()
        for factor in (1.0, 0.25):
            stddev = Pretrained(path, relative_scale=factor).distribution(site).stddev
            torch.testing.assert_close(stddev, (factor * size).expand(site.shape))


def test_samples_have_the_source_weights_as_mean_and_the_scale_as_deviation(tmp_path: Path) -> None:
    """4,000 samples of 72 weights; 5 standard errors are allowed, since there are many weights."""
    network = UNet(channels=(2, 4), ndim=2)
    site = weight_sites(network)["down1.conv_1.weight"]
    source = network.get_parameter(site.name).detach()
    w = Pretrained(saved(tmp_path, network), scale=0.3).site_distribution(site).sample((4000,))
    assert ((w.mean(0) - source).abs() < 5 * 0.3 / math.sqrt(4000)).all()
    assert ((w.var(0) / 0.09 - 1).abs() < 5 * math.sqrt(2 / 4000)).all()
    kurtosis = ((w - source) / 0.3).pow(4)
    assert abs(kurtosis.mean() - 3) < 4 * kurtosis.std() / math.sqrt(kurtosis.numel())


def test_the_kl_divergence_from_the_mean_field_guide_is_closed_and_that_of_torch(tmp_path: Path) -> None:
    """Also the mean of 5,000 samples; 4 standard errors are allowed."""
    torch.set_default_dtype(torch.float64)
    network = UNet(channels=(2, 4), ndim=2)
    sites = weight_sites(network)
    family = Pretrained(saved(tmp_path, network))
    guide = MeanField(sites, {name: torch.randn(site.shape) for name, site in sites.items()})
    for name, site in sites.items():
        q, prior = guide.distribution(name), family.site_distribution(site)
        exact = site_kl(node(q), node(prior), closed_form=True)
        torch.testing.assert_close(exact, kl_divergence(q.base_dist, Normal(prior.mean, prior.stddev)).sum())
    w = q.sample((5000,))
    sampled = q.log_prob(w) - prior.log_prob(w)
    assert abs(sampled.mean() - exact) < 4 * sampled.std() / math.sqrt(len(sampled))


def test_the_source_weights_follow_dtype_and_are_not_in_the_state_dict(tmp_path: Path) -> None:
    network = UNet(channels=(2, 4), ndim=2)
    family = Pretrained(saved(tmp_path, network)).double()
    site = next(iter(weight_sites(network).values()))
    assert family.site_distribution(site).sample().dtype == torch.float64
    assert not family.state_dict()
    assert not list(family.parameters())


def test_a_run_names_it_in_its_config(tmp_path: Path) -> None:
    path = saved(tmp_path, UNet(channels=(2, 4)))
    settings = {"path": path, "relative_scale": 0.5}
    family = instantiate(PriorFamily, {"class_path": "pretrained", "init_args": settings})
    assert isinstance(family, Pretrained)
    assert (family.path, family.scale, family.relative_scale) == (path, None, 0.5)


def test_a_site_of_another_shape_names_file_site_both_shapes_and_cure(tmp_path: Path) -> None:
    family = Pretrained(saved(tmp_path, UNet(channels=(2, 4), ndim=2)))
    site = weight_sites(UNet(channels=(2, 8), ndim=2))["up1.conv_1.weight"]
    narrow = weight_sites(UNet(in_channels=3, channels=(2, 4), ndim=2))["init_conv.weight"]
    assert family.distribution(site).batch_shape == (2, 2)
    with pytest.raises(
        CheckpointError,
        match=r"'init_conv\.weight' has a weight of shape \(2, 3, 3, 3\).*cycle-0\.safetensors it has \(2, 1, 3, 3\).*rules",
    ):
        family.distribution(narrow)


def test_a_site_that_the_source_lacks_names_file_shape_the_nearest_and_the_cure(tmp_path: Path) -> None:
    family = Pretrained(saved(tmp_path, UNet(channels=(2, 4), ndim=2)))
    site = weight_sites(UNet(channels=(2, 4, 4), ndim=2))["up2.conv_1.weight"]
    with pytest.raises(
        CheckpointError,
        match=r"cycle-0\.safetensors has no weight at site 'up2\.conv_1\.weight' of shape \(2, 2, 3, 3\).*"
        r"Did you mean 'up1\.conv_1\.weight'.*train a source network",
    ):
        family.distribution(site)


def test_a_layer_of_zeros_gives_no_width_and_says_so(tmp_path: Path) -> None:
    network = Biased()
    nn.init.zeros_(network.body[0].bias)
    site = weight_sites(network, expose=lambda _: True)["body.0.bias"]
    path = saved(tmp_path, network)
    with pytest.raises(ConfigError, match=r"'body\.0\.bias'.*all 0\. Set scale"):
        Pretrained(path).distribution(site)
    assert Pretrained(path, scale=0.1).distribution(site).mean.eq(0).all()


@pytest.mark.parametrize("settings", [{"scale": 0.0}, {"scale": -1.0}, {"relative_scale": 0.0}])
def test_a_prior_without_width_is_refused(tmp_path: Path, settings: dict) -> None:
    with pytest.raises(ConfigError, match="needs a positive scale or relative_scale"):
        Pretrained(saved(tmp_path, Biased()), **settings)


def test_a_file_that_is_missing_or_no_network_names_the_cure(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.safetensors does not exist.*train_source"):
        Pretrained(str(tmp_path / "none.safetensors"))
    write_tensor_file(tmp_path / "bank.safetensors", "kernel bank", {"1": torch.zeros(2)}, {})
    with pytest.raises(CheckpointError, match=r"should be a network, but says it is 'kernel bank'.*train_source"):
        Pretrained(str(tmp_path / "bank.safetensors"))
