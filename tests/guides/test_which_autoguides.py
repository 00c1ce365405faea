"""Everything that `pyro.infer.autoguide` exports works over weight sites, or is refused for its own reason with the cure."""

import inspect
import re

import pyro.distributions as dist
import pytest
import torch
from pyro.infer import autoguide
from pyro.nn import PyroParam
from torch import nn
from torch.distributions import constraints

import guides
from guides import Auto, Ensemble
from guides.auto import BASES, REFUSED, adapter
from pyro_dwp.errors import ConfigError
from pyro_dwp.infer import Flipout
from pyro_dwp.sites import WeightSite

SITES = {
    "down.conv.weight": WeightSite("down.conv.weight", torch.Size((3, 2, 2, 2)), "1"),
    "down.conv.bias": WeightSite("down.conv.bias", torch.Size((3,)), "bias"),
}
WORKS = ["AutoDelta", "AutoDiagonalNormal", "AutoLowRankMultivariateNormal", "AutoMultivariateNormal", "AutoNormal"]
REASONS = {
    "AutoCallable": "container of other guides",
    "AutoContinuous": "base to derive",
    "AutoDiscreteParallel": "discrete",
    "AutoGaussian": "dependencies",
    "AutoGuide": "base to derive",
    "AutoGuideList": "container of other guides",
    "AutoIAFNormal": "whatever the start weights",
    "AutoLaplaceApproximation": "Hessian",
    "AutoMessenger": "from its prior",
    "AutoNormalMessenger": "from its prior",
    "AutoHierarchicalNormalMessenger": "from its prior",
    "AutoNormalizingFlow": "whatever the start weights",
    "AutoRegressiveMessenger": "from its prior",
    "AutoStructured": "dependencies",
}
CLASSES = [name for name in autoguide.__all__ if inspect.isclass(getattr(autoguide, name))]


class Student(autoguide.AutoContinuous):
    """Independent Student t: a posterior that `Auto` cannot take apart."""

    def _setup_prototype(self, *args: object, **kwargs: object) -> None:
        super()._setup_prototype(*args, **kwargs)
        self.loc = nn.Parameter(self._init_loc())
        self.width = PyroParam(torch.full_like(self.loc, 0.01), constraints.positive)

    def get_posterior(self, *args: object, **kwargs: object) -> dist.TorchDistribution:
        return dist.StudentT(5.0, self.loc, self.width).to_event(1)


class Shifted(autoguide.AutoContinuous):
    """Gaussians moved by a transform, without `to_event`."""

    def _setup_prototype(self, *args: object, **kwargs: object) -> None:
        super()._setup_prototype(*args, **kwargs)
        self.loc = nn.Parameter(self._init_loc())

    def get_base_dist(self) -> dist.TorchDistribution:
        return dist.Normal(torch.zeros_like(self.loc), 1.0)

    def get_transform(self, *args: object, **kwargs: object) -> dist.transforms.AffineTransform:
        return dist.transforms.AffineTransform(self.loc, 0.01)


@pytest.fixture
def start() -> dict:
    return {name: 1 + torch.rand(site.shape) for name, site in SITES.items()}


@pytest.mark.parametrize("name", autoguide.__all__)
def test_whatever_pyro_exports_draws_around_its_start_or_is_refused_for_its_own_reason(name: str, start: dict) -> None:
    path = f"pyro.infer.autoguide.{name}"
    if name in WORKS:
        drawn = Auto(SITES, start, path, relative_scale=1e-3)()
        for site in SITES:
            torch.testing.assert_close(drawn[site], start[site], rtol=0.02, atol=0)
        return
    reason = (
        rf"{name} cannot be used over weight sites: it .*{REASONS.get(name)}.*Use pyro\.infer\.autoguide\.AutoNormal"
    )
    if name not in CLASSES:
        reason = rf"needs a subclass of pyro\.infer\.autoguide\.AutoGuide, but received '{name}'"
    with pytest.raises(ConfigError, match=reason):
        Auto(SITES, start, path)


@pytest.mark.parametrize("name", sorted(set(CLASSES) - set(WORKS)))
def test_a_class_that_is_refused_is_so_before_its_arguments_are_asked_for(name: str) -> None:
    """As on the command line, where the class is named first; AutoCallable, for one, needs a guide."""
    with pytest.raises(ConfigError, match=f"{name} cannot be used .*{REASONS[name]}"):
        adapter(getattr(autoguide, name))
    if name != "AutoGuide":  # which `guides.auto` imports for itself
        with pytest.raises(ConfigError, match=f"{name} cannot be used .*{REASONS[name]}"):
            getattr(guides.auto, name)


@pytest.mark.parametrize("name", [*BASES, *REFUSED])
def test_a_refused_base_of_autoguides_leaves_the_others_in_use(name: str, start: dict) -> None:
    with pytest.raises(ConfigError):
        adapter(getattr(autoguide, name))
    assert set(Auto(SITES, start, autoguide.AutoNormal)()) == set(SITES)


def test_the_legal_names_are_those_that_work(start: dict) -> None:
    with pytest.raises(ConfigError) as refused:
        Auto(SITES, start, "pyro.infer.autoguide.AutoNorml")
    named = re.findall(r"pyro\.infer\.autoguide\.(\w+)", str(refused.value).partition("Legal names are:")[2])
    assert set(named) == set(WORKS)


@pytest.mark.parametrize("family", [Student, Shifted])
def test_a_posterior_that_cannot_be_taken_apart_tells_no_distribution(family: type, start: dict) -> None:
    guide = Auto(SITES, start, family)
    torch.testing.assert_close(guide()["down.conv.bias"], start["down.conv.bias"], rtol=0.2, atol=0)
    for told in (guide, Ensemble(SITES, start, lambda *given: Auto(*given, family), members=2)):
        with pytest.raises(NotImplementedError, match=f"{family.__name__} does not tell .*shared_sample"):
            told.distribution("down.conv.bias")


def test_flipout_refuses_a_posterior_that_cannot_be_taken_apart_as_a_setting(start: dict) -> None:
    with pytest.raises(ConfigError, match=r"Student does not tell .*--estimator shared_sample"):
        Flipout()(lambda image: image, Auto(SITES, start, Student))
