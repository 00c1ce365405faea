"""`check_guide`: what is refused before inference, and that looking at a guide changes nothing."""

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from guides import Guide, MeanField, Point
from pyro_dwp.errors import ConfigError
from pyro_dwp.infer import check_guide
from pyro_dwp.priors import Gaussian, Prior
from pyro_dwp.sites import WeightSite
from tests.helpers.guides import moved, started
from tests.helpers.refusal import refuses

SITES = {name: WeightSite(name, torch.Size([4, 2, 3, 3]), "1") for name in ("a", "b")}


class Bounded(Prior):
    def __init__(self, family: Callable[[Tensor], dist.TorchDistribution]) -> None:
        super().__init__()
        self.family = family

    def distribution(self, site: WeightSite) -> dist.TorchDistribution:
        return self.family(torch.ones(site.kernel_shape)).to_event(2)


def over_sites(guide: type[Guide]) -> Guide:
    return started(guide(SITES), {name: torch.randn(site.shape) for name, site in SITES.items()})


def with_own(forward: Callable[[Guide], Any]) -> Guide:
    """Return a mean field, but for what `forward` leaves out, renames or changes."""
    return over_sites(type("Mine", (MeanField,), {"forward": lambda guide, *_, **__: forward(guide)}))


def with_latent(infer: dict[str, bool]) -> Callable[[Guide], dict[str, Tensor]]:
    def forward(guide: Guide) -> dict[str, Tensor]:
        pyro.sample("u", dist.Normal(0.0, 1.0), infer=infer)
        return {name: guide.sample(name) for name in SITES}

    return forward


def flat(guide: Guide) -> dict[str, Tensor]:
    return {"a": guide.sample("a"), "b": pyro.sample("b", dist.Normal(torch.zeros(72), 1.0).to_event(1))}


MISTAKES = {
    "missing": (lambda guide: {"a": guide.sample("a")}, ["'b'"]),
    "unsampled": (lambda guide: {"a": guide.sample("a"), "b": guide.parameter("mean", "b")}, ["'b'"]),
    "renamed": (lambda guide: {"a": guide.sample("a"), "c": pyro.sample("c", guide.distribution("b"))}, ["'b'"]),
    "one too many": (with_latent({}), ["'u'", "is_auxiliary"]),
    "flat": (flat, ["'b' (group '1')", "(72,)"]),
    "a list": (lambda guide: [guide.sample("a"), guide.sample("b")], ["'a'"]),
    "nothing": (lambda guide: None, ["'a'"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_does_not_go_with_the_sites_is_refused(mistake: str) -> None:
    forward, tokens = MISTAKES[mistake]
    with refuses("Mine", *tokens, error=ConfigError):
        check_guide(SITES, Gaussian(), with_own(forward))


def test_a_latent_variable_of_the_guides_own_is_taken() -> None:
    check_guide(SITES, Gaussian(), with_own(with_latent({"is_auxiliary": True})))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_draw_that_is_not_finite_is_refused(value: float) -> None:
    guide = over_sites(Point)
    with torch.no_grad():
        guide.parameter("value", "b")[0, 0, 0, 0] = value
    for each, token in ((guide, "'b' (group '1')"), (Point(SITES), "guide.start")):
        with refuses("Point", token, "not finite", error=ConfigError):
            check_guide(SITES, Gaussian(), each)


@pytest.mark.parametrize("family", [dist.HalfNormal, lambda one: dist.Uniform(-one, one)])
def test_a_gaussian_outside_the_support_of_a_prior_is_refused_and_a_point_inside_is_taken(family: Any) -> None:
    prior = Bounded(family)
    with refuses("Bounded has no density", error=ConfigError):
        check_guide(SITES, prior, over_sites(MeanField))
    inside = {name: prior.site_distribution(site).sample() for name, site in SITES.items()}
    check_guide(SITES, prior, started(Point(SITES), inside))


def test_looking_leaves_guide_and_generator_as_they_were() -> None:
    guide, state = over_sites(MeanField), torch.get_rng_state()
    assert moved([guide], lambda: check_guide(SITES, Gaussian(), guide)) == [[]]
    assert torch.equal(torch.get_rng_state(), state)
