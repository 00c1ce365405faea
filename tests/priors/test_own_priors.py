"""A prior or a family of one's own: the examples of the documentation work, and each mistake is refused before inference."""

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import distributions as torch_dist

from pyro_dwp.errors import CheckpointError, ConfigError
from pyro_dwp.priors import Assigned, Prior, Rule
from pyro_dwp.priors.store import save_prior
from pyro_dwp.sites import WeightSite
from pyro_dwp.train import held_out_log_density
from tests.helpers.refusal import refuses

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
SITE = WeightSite("up1.conv_1.weight", torch.Size([4, 2, 3, 3]), "5")
ZEROS = torch.zeros(3, 3)


class Mine(Prior):
    def __init__(self, made: Callable[[], Any]) -> None:
        super().__init__()
        self.made = made

    def distribution(self, site: WeightSite) -> Any:
        return self.made()


class Forgetful(Mine):
    def __init__(self) -> None:
        pass


class Annoyed(Mine):
    def distribution(self, site: WeightSite) -> Any:
        raise ConfigError("my own words")


class Silent(dist.Delta):
    """Tells no support."""

    support = property(lambda self: (_ for _ in ()).throw(NotImplementedError))


MISTAKES = [
    (lambda: None, ("nothing",)),
    (lambda: ZEROS, ("Tensor", "pyro.distributions")),
    (lambda: torch_dist.Independent(torch_dist.Normal(ZEROS, 1.0), 2), ("torch's Independent", "pyro.distributions")),
    (lambda: dist.Normal(ZEROS, -1.0).to_event(2), ("scale", "positive")),
    (lambda: dist.Normal(ZEROS / 0, 1.0).to_event(2), ("loc", "finite")),
    (lambda: dist.Bernoulli(ZEROS + 0.5).to_event(2), ("discrete",)),
    (lambda: dist.Poisson(ZEROS + 0.5).to_event(2), ("discrete",)),
    (lambda: dist.Normal(torch.zeros(2, 2), 1.0).to_event(2), ("(3, 3)", "(2, 2)")),
    (lambda: dist.Normal(ZEROS, 1.0), ("batch shape (3, 3)", "event shape ()")),
]


@pytest.mark.parametrize("rules", [False, True], ids=["alone", "by a rule"])
@pytest.mark.parametrize(("made", "tokens"), MISTAKES)
def test_it_is_refused_with_class_and_site(made: Callable[[], Any], tokens: tuple[str, ...], rules: bool) -> None:
    prior: Prior = Assigned([Rule(Mine(made))]) if rules else Mine(made)
    with (
        pyro.validation_enabled(False),
        refuses("Mine.distribution", "'up1.conv_1.weight' (group '5')", *tokens, error=ConfigError),
    ):
        prior.check([SITE])


def test_a_forgotten_constructor_of_the_base_is_named_and_a_refusal_of_its_own_is_passed_on() -> None:
    with refuses("Forgetful", "super().__init__()", error=ConfigError):
        Forgetful().check([SITE])
    with pytest.raises(ConfigError, match=r"^my own words$"):
        Annoyed(lambda: None).check([SITE])


@pytest.mark.parametrize("family", [dist.Normal, dist.Laplace, dist.Cauchy, lambda loc, _: Silent(loc)])
def test_one_over_the_reals_is_taken_and_validation_stays_as_it_was(family: Callable[..., Any]) -> None:
    with pyro.validation_enabled(False):
        Mine(lambda: family(ZEROS, 1.0).to_event(2)).check([SITE])
        assert not dist.is_validation_enabled()


def test_a_learned_family_of_ones_own_is_one_file_that_fits_saves_and_loads(tmp_path: Path) -> None:
    own = runpy.run_path(str(EXAMPLES / "laplace_family.py"))
    kernels = dist.Laplace(torch.zeros(3, 3), torch.linspace(0.1, 0.9, 9).reshape(3, 3)).sample((20_000,))
    found = own["WidthsFit"]().fit(kernels[:15_000], kernels[15_000:], None)
    torch.testing.assert_close(found.density.width, kernels.abs().mean(0))
    save_prior(tmp_path / "prior.safetensors", {"5": found.density}, {})
    prior = own["Widths"](tmp_path / "prior.safetensors")
    prior.check([SITE])
    expected = dist.Laplace(torch.zeros(3, 3), kernels.abs().mean(0)).to_event(2).log_prob(kernels[:9])
    torch.testing.assert_close(prior.distribution(SITE).log_prob(kernels[:9]), expected)
    torch.testing.assert_close(held_out_log_density(found.density, kernels[:9]), expected.double())
    with refuses("run/train_prior", error=CheckpointError):
        own["Widths"]()
    with refuses("smallest", error=ConfigError):
        own["WidthsFit"](smallest=0)
