"""Mistakes in a prior of one's own: each is refused before inference, with class, site and cure."""

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import distributions as torch_dist

from pyro_dwp.errors import ConfigError
from pyro_dwp.priors import Assigned, PriorFamily, Rule
from pyro_dwp.sites import WeightSite

SITE = WeightSite("up1.conv_1.weight", torch.Size([4, 2, 3, 3]), "5")
ZEROS = torch.zeros(3, 3)


class Mine(PriorFamily):
    def __init__(self, made: Callable[[], Any]) -> None:
        super().__init__()
        self.made = made

    def distribution(self, site: WeightSite) -> Any:
        return self.made()


class Forgetful(Mine):
    def __init__(self, made: Callable[[], Any]) -> None:
        object.__setattr__(self, "made", made)


class Annoyed(Mine):
    def distribution(self, site: WeightSite) -> Any:
        raise ConfigError("my own words")


MISTAKES = [
    (lambda: None, "returned nothing. Is a return missing"),
    (lambda: ZEROS, "returned a Tensor. Return one of pyro.distributions"),
    (lambda: torch_dist.Independent(torch_dist.Normal(ZEROS, 1.0), 2), "torch's Independent.*from pyro.distributions"),
    (lambda: dist.Normal(ZEROS, -1.0).to_event(2), "cannot be built: Expected parameter scale .*a scale is positive"),
    (lambda: dist.Normal(ZEROS / 0, 1.0).to_event(2), "cannot be built: Expected parameter loc .*a finite number"),
    (lambda: dist.Bernoulli(ZEROS + 0.5).to_event(2), "is discrete, but a weight is a real number"),
    (lambda: dist.Poisson(ZEROS + 0.5).to_event(2), "is discrete, but a weight is a real number"),
]


@pytest.mark.parametrize("rules", [False, True], ids=["alone", "by a rule"])
@pytest.mark.parametrize(("made", "said"), MISTAKES)
def test_it_is_refused_in_one_line_that_names_class_and_site(made: Callable[[], Any], said: str, rules: bool) -> None:
    prior: PriorFamily = Assigned([Rule(Mine(made))]) if rules else Mine(made)
    with pyro.validation_enabled(False), pytest.raises(ConfigError, match=said) as error:
        prior.check([SITE])
    assert str(error.value).startswith("Mine.distribution(site 'up1.conv_1.weight' (group '5'))")
    assert "\n" not in str(error.value)


def test_a_forgotten_constructor_of_the_base_is_named() -> None:
    with pytest.raises(ConfigError, match=r"Forgetful.*super\(\).__init__\(\)"):
        Forgetful(lambda: dist.Normal(ZEROS, 1.0).to_event(2)).check([SITE])


def test_a_refusal_of_its_own_is_passed_on_as_it_is() -> None:
    with pytest.raises(ConfigError, match=r"^my own words$"):
        Annoyed(lambda: None).check([SITE])


@pytest.mark.parametrize("family", [dist.Normal, dist.Laplace, dist.Cauchy])
def test_one_over_the_reals_is_taken_and_validation_stays_as_it_was(family: type) -> None:
    with pyro.validation_enabled(False):
        Mine(lambda: family(ZEROS, 1.0).to_event(2)).check([SITE])
        assert not dist.is_validation_enabled()


def test_one_that_tells_no_support_is_taken() -> None:
    class Silent(dist.Delta):
        support = property(lambda self: (_ for _ in ()).throw(NotImplementedError))

    Mine(lambda: Silent(ZEROS).to_event(2)).check([SITE])
