"""The pages on priors and guides: they show the files in docs/examples, and these are what the pages say."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pyro.distributions import MultivariateNormal

from guides import Guide
from pyro_dwp.errors import ConfigError
from pyro_dwp.priors import Prior
from pyro_dwp.settings import instantiate
from pyro_dwp.sites import WeightSite
from tests.helpers.refusal import refuses

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLES = {"write_a_prior": ["smooth_prior", "implicit_prior"], "write_a_guide": ["per_kernel_guide"]}


def example(hint: Any, name: str, **arguments: float) -> Any:
    return instantiate(hint, {"class": f"{DOCS / 'examples' / name}", **arguments}, "example")


@pytest.mark.parametrize("page", EXAMPLES)
def test_a_page_shows_the_very_files_that_it_names(page: str) -> None:
    code = [(DOCS / "examples" / f"{name}.py").read_text() for name in EXAMPLES[page]]
    assert re.findall(r"```python\n(.*?)```", (DOCS / f"{page}.md").read_text(), flags=re.DOTALL) == code
    assert max(len(text.splitlines()) for text in code) <= 32


def test_the_smooth_prior_is_the_gaussian_that_its_page_says() -> None:
    prior, w = example(Prior, "smooth_prior.py:Smooth", scale=0.5, length=2.0), torch.randn(4, 2, 3, 3)
    place = torch.cartesian_prod(*[torch.arange(3.0)] * 2)
    expected = MultivariateNormal(torch.zeros(9), 0.25 * torch.exp(-torch.cdist(place, place) / 2))
    found = prior.site_distribution(WeightSite("w", w.shape, "1")).log_prob(w)
    torch.testing.assert_close(found, expected.log_prob(w.reshape(8, 9)).sum())


def test_the_waves_have_the_variance_of_their_formula_and_an_encoder_for_their_group() -> None:
    """For u ~ N(0, s²), E sin² u = (1 − exp(−2 s²)) / 2; here s² = |place|² + 1."""
    prior = example(Prior, "implicit_prior.py:Waves", scale=0.5)
    q = prior.site_distribution(WeightSite("w", torch.Size([200, 100, 3, 3, 3]), "1"))
    squares = q.sample().reshape(-1, 27).square()
    place = torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0])] * 3)
    expected = 0.25 * ((1 - torch.exp(-2 * (place.square().sum(1) + 1))) / 2 + 0.09)
    assert ((squares.mean(0) - expected).abs() < 5 * squares.std(0) / len(squares) ** 0.5).all()
    assert set(prior.encoders()) == {q.base_dist.group}


def test_the_guide_of_one_width_a_kernel_refuses_a_start_that_gives_it_none() -> None:
    make = example(Callable[[dict], Guide], "per_kernel_guide.py:PerKernel", relative_scale=0.5)
    guide = make({"conv.bias": WeightSite("conv.bias", torch.Size([4]), "bias")})
    guide.start(lambda: {"conv.bias": torch.ones(4)}, None)
    assert guide.distribution("conv.bias").variance.eq(0.25).all()
    with refuses("PerKernel", "conv.bias", "all 0", error=ConfigError):
        guide.start(lambda: {"conv.bias": torch.zeros(4)}, None)
