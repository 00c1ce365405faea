"""Pyro's autoguides over weight sites: those that work, and every other with its reason to be refused."""

import inspect
import types
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import autoguide
from pyro.nn import PyroParam
from torch import Tensor, nn
from torch.distributions import constraints

from guides import Auto, Ensemble, MeanField
from guides.auto import SERVED
from pyro_dwp.errors import ConfigError
from pyro_dwp.infer import AuxiliaryELBO, Flipout
from pyro_dwp.sites import WeightSite
from pyro_dwp.train import SVI, JointAdam
from tests.helpers.guides import make, started
from tests.helpers.monte_carlo import assert_mean
from tests.helpers.refusal import refuses

SHAPES = {"down.conv.weight": (3, 2, 2, 2), "down.conv.bias": (3,)}
SITES = {name: WeightSite(name, torch.Size(shape), "1") for name, shape in SHAPES.items()}
LOW_RANK = "AutoLowRankMultivariateNormal"
JOINT = ["AutoDiagonalNormal", "AutoMultivariateNormal", LOW_RANK]


class Student(autoguide.AutoContinuous):
    """Independent Student t: a posterior that `Auto` cannot take apart."""

    def __init__(self, model: Any, width: float = 0.01) -> None:
        super().__init__(model)
        self.initial = width

    def _setup_prototype(self, *args: object, **kwargs: object) -> None:
        super()._setup_prototype(*args, **kwargs)
        self.loc = nn.Parameter(self._init_loc())
        self.width = PyroParam(torch.full_like(self.loc, self.initial), constraints.positive)

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
def start() -> dict[str, Tensor]:
    return {name: 1 + torch.rand(shape) for name, shape in SHAPES.items()}


def gaussian_model(mean: float = 0.0) -> None:
    for name, shape in SHAPES.items():
        pyro.sample(name, dist.Normal(torch.full(shape, mean), 0.05).to_event(len(shape)))


@pytest.mark.parametrize("family", ["AutoNormal", *JOINT])
def test_its_width_starts_relative_to_all_start_weights(family: str, start: dict) -> None:
    every = torch.cat([value.flatten() for value in start.values()])
    guide = make(Auto, start, family=family, relative_scale=0.2)
    for name in start:
        q = guide.distribution(name)
        torch.testing.assert_close(q.mean, start[name])
        expected = 0.2 * every.square().mean().sqrt()
        if family == LOW_RANK:  # Pyro's factor starts random
            assert 0.5 * expected < q.variance.mean().sqrt() < 2 * expected
        else:
            torch.testing.assert_close(q.variance.sqrt(), expected.expand(start[name].shape))


@pytest.mark.parametrize("family", JOINT)
def test_a_sites_own_distribution_is_the_marginal_of_the_joint(family: str, start: dict) -> None:
    guide = make(Auto, start, family=family)
    with torch.no_grad():
        for parameter in guide.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    joint = guide.autoguide.get_posterior()
    covariance = getattr(joint, "covariance_matrix", None)
    covariance = torch.diag(joint.variance) if covariance is None else covariance
    for name, part in {"down.conv.weight": slice(0, 24), "down.conv.bias": slice(24, 27)}.items():
        q, value = guide.distribution(name), torch.randn(SHAPES[name])
        expected = dist.MultivariateNormal(joint.mean[part], covariance[part, part]).log_prob(value.flatten())
        torch.testing.assert_close(q.log_prob(value), expected, rtol=1e-3, atol=1e-3)


def test_auto_normal_has_in_mean_the_loss_of_the_mean_field(start: dict) -> None:
    """The mean field's divergence is exact, AutoNormal's that of 300 draws."""
    alike = {name: 0.05 * value / value.square().mean().sqrt() for name, value in start.items()}
    exact, auto, elbo = AuxiliaryELBO().loss(gaussian_model, make(MeanField, alike)), make(Auto, alike), AuxiliaryELBO()
    losses = torch.tensor([elbo.loss(gaussian_model, auto) for _ in range(300)])
    assert_mean(losses, exact, within=0.02 * exact)


@pytest.mark.parametrize("family", SERVED)
def test_svi_moves_it_to_the_posterior_of_a_constant_prior(family: str, start: dict) -> None:
    guide = make(Auto, {name: 0.02 * value for name, value in start.items()}, family=family)
    svi = SVI(lambda: gaussian_model(0.5), guide, JointAdam({"posterior": [guide]}, 0.03), AuxiliaryELBO())
    for _ in range(90):
        svi.step()
    assert all((guide.distribution(name).mean - 0.5).abs().max() < 0.15 for name in SITES)


@pytest.mark.parametrize("name", autoguide.__all__)
def test_whatever_pyro_exports_draws_around_its_start_or_is_refused_as_are_classes_derived_from_it(name, start):
    parent = getattr(autoguide, name)
    if name in SERVED:
        drawn = make(Auto, start, family=f"pyro.infer.autoguide.{name}", relative_scale=1e-3)()
        for site in SITES:
            torch.testing.assert_close(drawn[site], start[site], rtol=0.02, atol=0)
        return
    with refuses(name, ", ".join(SERVED), error=ConfigError):
        Auto(SITES, name)
    if inspect.isclass(parent) and parent not in (autoguide.AutoGuide, autoguide.AutoContinuous):
        with refuses("Mine", error=ConfigError):
            Auto(SITES, types.new_class(f"{name}Mine", (parent,), {}, lambda body: body.update(__module__="mine")))


MISTAKES = {
    "misspelt": ({"family": "AutoNorml"}, ["Did you mean 'AutoNormal'"]),
    "no such module": ({"family": "nowhere.AutoNormal"}, ["nowhere.AutoNormal"]),
    "no autoguide": ({"family": "pyro.infer.SVI"}, ["'SVI'"]),
    "unknown setting": ({"settings": {"colour": "red"}}, ["colour"]),
    "n² numbers": ({"family": "AutoMultivariateNormal"}, ["2.0e+11", "450000", "low_rank"]),
    "√n columns": ({"family": LOW_RANK}, ["3.0e+08", "rank: 8"]),
    "rank": ({"family": LOW_RANK, "settings": {"rank": 10**9}}, ["4.5e+14"]),
    "width": ({"family": Student, "settings": {"width": -1.0}}, ["width"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_cannot_be_built_is_refused_with_the_cure(mistake: str) -> None:
    settings, tokens = MISTAKES[mistake]
    with refuses(*tokens, error=ConfigError):
        Auto({"w": WeightSite("w", torch.Size((500, 100, 3, 3)), "1")}, **settings)


@pytest.mark.parametrize("family", [Student, Shifted])
def test_a_posterior_that_cannot_be_taken_apart_tells_no_distribution(family: type, start: dict) -> None:
    guide = make(Auto, start, family=family)
    torch.testing.assert_close(guide()["down.conv.bias"], start["down.conv.bias"], rtol=0.2, atol=0)
    ensemble = started(Ensemble(SITES, lambda sites: Auto(sites, family), members=2), start)
    for told in (guide, ensemble):
        with pytest.raises(NotImplementedError, match=f"{family.__name__}.*shared_sample"):
            told.distribution("down.conv.bias")
    with refuses(family.__name__, "shared_sample", error=ConfigError):
        Flipout()(lambda image: image, guide)


def test_an_autoguide_takes_its_own_settings_one_by_its_dotted_path(start: dict) -> None:
    guide = make(Auto, start, family=f"{__name__}.Student", settings={"width": 1e-3})
    torch.testing.assert_close(guide.autoguide.width, torch.full((27,), 1e-3))
    q = make(Auto, start, settings={"init_scale": 0.01}).distribution("down.conv.bias")
    torch.testing.assert_close(q.variance.sqrt(), torch.full((3,), 0.01), rtol=1e-4, atol=0)
