"""Every guide that needs no prior, and how a test starts one."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyro
import torch
from torch import Tensor, nn

from guides import Auto, ChannelCovariance, Dropout, Ensemble, Guide, KernelCovariance, LowRank, MeanField, Point
from pyro_dwp.nn import UNet
from pyro_dwp.priors import Gaussian, Prior
from pyro_dwp.sites import WeightSite, weight_sites


def auto(family: str, **settings: Any) -> Callable[[Mapping[str, WeightSite]], Guide]:
    return lambda sites: Auto(sites, family, settings=settings)


GUIDES: dict[str, Callable[[Mapping[str, WeightSite]], Guide]] = {
    "point": Point,
    "dropout": Dropout,
    "mean_field": MeanField,
    "kernel_covariance": KernelCovariance,
    "kernel_covariance, each": lambda sites: KernelCovariance(sites, shared=False),
    "low_rank": lambda sites: LowRank(sites, rank=3),
    "channel_covariance": ChannelCovariance,
    "ensemble": lambda sites: Ensemble(sites, members=2),
    "ensemble of points": lambda sites: Ensemble(sites, guide=Point, members=2),
    "ensemble of AutoNormal": lambda sites: Ensemble(sites, guide=Auto, members=2),
    "AutoNormal": Auto,
    "AutoDelta": auto("AutoDelta"),
    "AutoDiagonalNormal": auto("AutoDiagonalNormal"),
    "AutoMultivariateNormal": auto("AutoMultivariateNormal"),
    "AutoLowRank": auto("AutoLowRankMultivariateNormal", rank=3),
}


def started(guide: Guide, weights: Mapping[str, Tensor], prior: Prior | None = None) -> Any:
    """Start a guide from these weights, every member of an ensemble alike, and return it."""
    guide.start(lambda: weights, prior or Gaussian())
    return guide


def make(kind: Callable[..., Guide], weights: Mapping[str, Tensor], **settings: Any) -> Any:
    """Return a guide over sites of the weights' shapes, in groups of their own names, that starts from them."""
    sites = {name: WeightSite(name, weight.shape, name) for name, weight in weights.items()}
    return started(kind(sites, **settings), weights)


def unet(ndim: int = 3) -> tuple[UNet, dict[str, WeightSite], dict[str, Tensor]]:
    """Return a small network, its sites and its own weights."""
    network = UNet(channels=(2, 4), ndim=ndim)
    sites = weight_sites(network)
    return network, sites, {name: network.get_parameter(name).detach() for name in sites}


def assert_same_draws(*guides: Guide) -> None:
    """Check that guides return the same weights with the same seed, at every site of the first."""
    draws = []
    for guide in guides:
        pyro.set_rng_seed(1)
        draws.append(guide())
    assert all(torch.equal(other[name], draws[0][name]) for other in draws[1:] for name in guides[0].sites)


def moved(modules: Sequence[nn.Module], step: Callable[[], Any]) -> list[list[str]]:
    """Return, for each module, the names of the parameters that the step changes."""
    before = [{name: value.detach().clone() for name, value in module.named_parameters()} for module in modules]
    step()
    return [
        [name for name, value in module.named_parameters() if not torch.equal(value, values[name])]
        for module, values in zip(modules, before, strict=True)
    ]
