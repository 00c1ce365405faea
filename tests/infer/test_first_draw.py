"""`check_guide`: what of a guide is refused before inference, and that looking at it changes nothing."""

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
from pyro_dwp.priors import Gaussian, PriorFamily
from pyro_dwp.sites import WeightSite

SITES = {name: WeightSite(name, torch.Size([4, 2, 3, 3]), "1") for name in ("a", "b")}


class Mine(MeanField):
    """Mean field, but for what `forward` leaves out, renames or changes."""

    def __init__(self, *given: Any, forward: Callable[["Mine"], Any]) -> None:
        super().__init__(*given)
        self.own = forward

    def forward(self, *arguments: Any, **settings: Any) -> Any:
        return self.own(self)


class Bounded(PriorFamily):
    def __init__(self, family: Callable[[Tensor], dist.TorchDistribution]) -> None:
        super().__init__()
        self.family = family

    def distribution(self, site: WeightSite) -> dist.TorchDistribution:
        return self.family(torch.ones(site.kernel_shape)).to_event(2)


def start() -> dict[str, Tensor]:
    return {name: torch.randn(site.shape) for name, site in SITES.items()}


def unsampled(guide: Mine) -> dict[str, Tensor]:
    return {"a": guide.sample("a"), "b": guide.parameter("mean", "b")}


def renamed(guide: Mine) -> dict[str, Tensor]:
    return {"a": guide.sample("a"), "c": pyro.sample("c", guide.distribution("b"))}


def with_latent(infer: dict[str, bool]) -> Callable[[Mine], dict[str, Tensor]]:
    def forward(guide: Mine) -> dict[str, Tensor]:
        pyro.sample("u", dist.Normal(0.0, 1.0), infer=infer)
        return {name: guide.sample(name) for name in SITES}

    return forward


def flat(guide: Mine) -> dict[str, Tensor]:
    return {"a": guide.sample("a"), "b": pyro.sample("b", dist.Normal(torch.zeros(72), 1.0).to_event(1))}


MISTAKES = [
    (lambda guide: {"a": guide.sample("a")}, "Mine returns each of the model's 2 sites.*but 'b' is missing"),
    (unsampled, "Mine samples each of the model's 2 sites.*but 'b' is missing"),
    (renamed, "'b' is missing and 'c' is of no site"),
    (with_latent({}), "'u' is of no site of the model.*is_auxiliary"),
    (flat, r"site 'b' \(group '1'\) a weight of shape \(4, 2, 3, 3\), but gave \(72,\)"),
    (lambda guide: [guide.sample("a"), guide.sample("b")], "Mine must return its draws as a dict.*a list"),
    (lambda guide: None, "Mine must return its draws as a dict.*a NoneType"),
]


@pytest.mark.parametrize(("forward", "said"), MISTAKES)
def test_what_does_not_go_with_the_sites_is_refused(forward: Callable[[Mine], Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        check_guide(SITES, Gaussian(), Mine(SITES, start(), forward=forward))
    assert "\n" not in str(error.value)


def test_a_latent_variable_of_the_guides_own_is_taken() -> None:
    check_guide(SITES, Gaussian(), Mine(SITES, start(), forward=with_latent({"is_auxiliary": True})))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_draw_that_is_not_finite_is_refused(value: float) -> None:
    guide = Point(SITES, start())
    with torch.no_grad():
        guide.parameter("value", "b")[0, 0, 0, 0] = value
    with pytest.raises(ConfigError, match=r"Point draws weights that are not finite for site 'b' \(group '1'\)"):
        check_guide(SITES, Gaussian(), guide)


BOUNDED = {
    "GreaterThanEq": lambda one: dist.HalfNormal(one),
    "Interval": lambda one: dist.Uniform(-one, one),
}


@pytest.mark.parametrize("support", BOUNDED)
def test_a_gaussian_outside_the_support_of_a_prior_is_refused_and_a_point_inside_is_taken(support: str) -> None:
    prior = Bounded(BOUNDED[support])
    with pytest.raises(ConfigError, match=f"Bounded has no density.*its support is {support}. Choose a prior"):
        check_guide(SITES, prior, MeanField(SITES, start()))
    check_guide(SITES, prior, Point(SITES, {name: prior.site_distribution(SITES[name]).sample() for name in SITES}))


@pytest.mark.parametrize("guide_class", [MeanField, Point])
def test_looking_leaves_guide_and_generator_as_they_were(guide_class: type[Guide]) -> None:
    guide = guide_class(SITES, start())
    before, state = [p.detach().clone() for p in guide.parameters()], torch.get_rng_state()
    check_guide(SITES, Gaussian(), guide)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(p, q) for p, q in zip(guide.parameters(), before, strict=True))
