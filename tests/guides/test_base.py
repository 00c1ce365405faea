"""What the base of all guides says of mistakes in a guide of one's own."""

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor
from torch import distributions as torch_dist

from guides import Guide
from pyro_dwp.errors import ConfigError
from pyro_dwp.sites import WeightSite

SITES = {"w.x": WeightSite("w.x", torch.Size([4, 2, 3, 3]), "1")}


class Mine(Guide):
    def __init__(self, made: Callable[[Tensor], Any], kind: str = "mean") -> None:
        super().__init__(SITES, {"w.x": torch.zeros(4, 2, 3, 3)})
        self.add_parameter("mean", "w.x", torch.zeros(4, 2, 3, 3))
        self.add_parameter("log_scale", "w.x", torch.zeros(()))
        self.made, self.kind = made, kind

    def distribution(self, name: str) -> Any:
        return self.made(self.parameter(self.kind, name))


def test_a_parameter_that_was_not_added_lists_those_that_were() -> None:
    said = r"Mine .*'means' for site 'w\.x'\. Legal names are: log_scale, mean\. Did you mean 'mean'.*add_parameter"
    with pytest.raises(ConfigError, match=said):
        Mine(lambda mean: dist.Normal(mean, 1.0).to_event(4), kind="means")()


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda mean: dist.Normal(mean, 1.0), r"has \(4, 2, 3, 3\) and \(\)\. End it with \.to_event"),
        (
            lambda mean: dist.Normal(mean.flatten(), 1.0).to_event(1),
            r"has \(\) and \(72,\)\. Give its parameters the shape",
        ),
        (lambda mean: None, "must return a Pyro distribution .*but returned None"),
        (
            lambda mean: torch_dist.Normal(mean, 1.0),
            "must return a Pyro distribution .*but returned Normal.*those of torch",
        ),
    ],
)
def test_what_is_no_distribution_over_the_site_is_refused_with_its_name(
    made: Callable[[Tensor], Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=rf"Mine\.distribution\('w\.x'\) .*{said}"):
        Mine(made)()
