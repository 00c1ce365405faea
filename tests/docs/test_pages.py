"""The pages on priors and guides of one's own: their files are the ones in docs/examples, are short, and run elsewhere."""

import re
from pathlib import Path

import pytest
import torch
from pyro.distributions import MultivariateNormal

from guides import Guide
from pyro_dwp.cli.names import load_class, resolve
from pyro_dwp.errors import ConfigError
from pyro_dwp.priors import PriorFamily
from pyro_dwp.sites import WeightSite

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLES = {"smooth_prior": "write_a_prior", "per_kernel_guide": "write_a_guide"}


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_page_shows_the_very_file_that_it_names(example: str) -> None:
    code = (DOCS / "examples" / f"{example}.py").read_text()
    assert re.findall(r"```python\n(.*?)```", (DOCS / f"{EXAMPLES[example]}.md").read_text(), flags=re.DOTALL) == [code]
    assert len(code.splitlines()) <= 30


def test_the_smooth_prior_is_the_gaussian_that_its_page_says() -> None:
    name = resolve(f"{DOCS / 'examples' / 'smooth_prior.py'}:Smooth", PriorFamily, "test")
    prior = load_class(name)(scale=0.5, length=2.0)
    site = WeightSite("w", torch.Size([4, 2, 3, 3]), "1")
    place = torch.tensor([[row, column] for row in range(3) for column in range(3)], dtype=torch.float32)
    covariance = 0.25 * torch.exp(-torch.cdist(place, place) / 2)
    w = torch.randn(site.shape)
    expected = MultivariateNormal(torch.zeros(9), covariance).log_prob(w.reshape(8, 9)).sum()
    torch.testing.assert_close(prior.site_distribution(site).log_prob(w), expected)


def test_the_guide_of_one_width_a_kernel_refuses_a_start_that_gives_it_none() -> None:
    guide = load_class(resolve(f"{DOCS / 'examples' / 'per_kernel_guide.py'}:PerKernel", Guide, "test"))
    site = WeightSite("conv.bias", torch.Size([4]), "bias")
    assert (
        guide({"conv.bias": site}, {"conv.bias": torch.ones(4)}, 0.5).distribution("conv.bias").variance.eq(0.25).all()
    )
    with pytest.raises(ConfigError, match=r"PerKernel scales site 'conv\.bias' .* all 0"):
        guide({"conv.bias": site}, {"conv.bias": torch.zeros(4)})
