"""The prior around a source network's weights: what it takes from the file, its density, and what it refuses."""

import math
from pathlib import Path

import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from guides import MeanField
from pyro_dwp.errors import CheckpointError, ConfigError
from pyro_dwp.files import write_tensors
from pyro_dwp.infer.divergence import site_kl
from pyro_dwp.nn import UNet, save_network
from pyro_dwp.priors import Pretrained
from pyro_dwp.sites import weight_sites
from tests.helpers.monte_carlo import assert_mean
from tests.helpers.refusal import refuses


class Biased(nn.Module):
    """A network with every kind of parameter and an integer buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([2.0]))
        self.body = nn.Sequential(nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4), nn.ConvTranspose3d(4, 2, 2))
        self.head = nn.Linear(2, 3)


def saved(folder: Path, network: nn.Module) -> Path:
    save_network(folder / "source.safetensors", network, {"dice": 0.9})
    return folder / "source.safetensors"


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
        assert_mean(prior.sample((500,)).sub(source).pow(2).flatten() / 0.04, 1.0, within=0.07, errors=5)


def test_by_default_a_weight_varies_as_much_as_the_layers_weights_are_large_in_any_dtype(tmp_path: Path) -> None:
    network = UNet(channels=(2, 4))
    path = saved(tmp_path, network)
    for name, site in weight_sites(network).items():
        size = network.get_parameter(name).detach().square().mean().sqrt()
        for factor in (1.0, 0.25):
            stddev = Pretrained(path, relative_scale=factor).distribution(site).stddev
            torch.testing.assert_close(stddev, (factor * size).expand(site.shape))
    family = Pretrained(path).double()
    assert family.site_distribution(site).sample().dtype == torch.float64
    assert not family.state_dict()
    assert not list(family.parameters())


def test_the_kl_divergence_from_the_mean_field_guide_is_closed_and_that_of_torch(tmp_path: Path) -> None:
    """Also the mean of 5,000 samples."""
    torch.set_default_dtype(torch.float64)
    network = UNet(channels=(2, 4), ndim=2)
    sites = weight_sites(network)
    family = Pretrained(saved(tmp_path, network))
    guide = MeanField(sites)
    guide.start(lambda: {name: torch.randn(site.shape) for name, site in sites.items()}, family)
    for name, site in sites.items():
        q, prior = guide.distribution(name), family.site_distribution(site)
        exact = site_kl(node(q), node(prior), closed_form=True)
        torch.testing.assert_close(exact, kl_divergence(q.base_dist, Normal(prior.mean, prior.stddev)).sum())
    w = q.sample((5000,)).detach()
    assert_mean(q.log_prob(w) - prior.log_prob(w), exact.detach(), within=0.01 * exact.item())


@pytest.mark.parametrize(
    ("target", "name", "tokens"),
    [
        ({"in_channels": 3}, "init_conv.weight", ("(2, 3, 3, 3)", "(2, 1, 3, 3)")),
        ({"channels": (2, 4, 4)}, "up2.conv_1.weight", ("(2, 2, 3, 3)", "'up1.conv_1.weight'")),
    ],
)
def test_a_site_that_the_source_lacks_or_has_in_another_shape_is_refused(tmp_path, target, name, tokens):
    family = Pretrained(saved(tmp_path, UNet(channels=(2, 4), ndim=2)))
    site = weight_sites(UNet(**{"channels": (2, 4), "ndim": 2, **target}))[name]
    with refuses(name, "source.safetensors", "--prior assigned", *tokens, error=CheckpointError):
        family.distribution(site)


def test_a_layer_of_zeros_gives_no_width_and_says_so(tmp_path: Path) -> None:
    network = Biased()
    nn.init.zeros_(network.body[0].bias)
    site = weight_sites(network, expose=lambda _: True)["body.0.bias"]
    path = saved(tmp_path, network)
    with refuses("'body.0.bias'", "scale", error=ConfigError):
        Pretrained(path).distribution(site)
    assert Pretrained(path, scale=0.1).distribution(site).mean.eq(0).all()


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
@pytest.mark.parametrize("setting", ["scale", "relative_scale"])
def test_a_prior_without_width_is_refused(tmp_path: Path, setting: str, value: float) -> None:
    with refuses(f"{setting} is {value}", error=ConfigError):
        Pretrained(saved(tmp_path, Biased()), **{setting: value})


def test_a_file_that_is_missing_no_network_or_not_finite_names_the_cure(tmp_path: Path) -> None:
    write_tensors(tmp_path / "bank.safetensors", "kernel bank", {"1": torch.zeros(2)}, {})
    write_tensors(tmp_path / "nan.safetensors", "network", {"w": torch.full((2,), torch.nan)}, {})
    for name in ("none", "bank", "nan"):
        with refuses(f"{name}.safetensors", "train_source", error=CheckpointError):
            Pretrained(tmp_path / f"{name}.safetensors")
