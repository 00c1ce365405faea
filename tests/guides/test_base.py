"""Mistakes in a guide of one's own."""

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor
from torch import distributions as torch_dist

from guides import Guide
from pyro_dwp.errors import ConfigError
from pyro_dwp.priors import Gaussian
from pyro_dwp.sites import WeightSite
from tests.helpers.examples import example
from tests.helpers.guides import started
from tests.helpers.refusal import refuses

SITES = {"w.x": WeightSite("w.x", torch.Size([4, 2, 3, 3]), "1")}
START = {"w.x": torch.ones(4, 2, 3, 3)}


class Mine(Guide):
    def __init__(self, made: Callable[[Tensor], Any], kind: str = "mean") -> None:
        super().__init__(SITES)
        self.create("mean", "w.x", (4, 2, 3, 3))
        self.create("log_scale", "w.x", ())
        self.made, self.kind = made, kind

    def start_site(self, name: str, weight: Tensor) -> None:
        self.fill("mean", name, weight)
        self.fill("log_scale", name, weight.new_zeros(()))

    def distribution(self, name: str) -> Any:
        return self.made(self.parameter(self.kind, name))


class Forgetful(Mine):
    def start_site(self, name: str, weight: Tensor) -> None:
        self.fill("mean", name, weight)


class Silent(Guide):
    def distribution(self, name: str) -> Any:
        return None


def normal(mean: Tensor) -> dist.TorchDistribution:
    return dist.Normal(mean, 1.0).to_event(4)


MISTAKES = {
    "another parameter": (lambda: Mine(normal, kind="means"), ["'means'", "Did you mean 'mean'", "create"]),
    "batch axes": (lambda: Mine(lambda mean: dist.Normal(mean, 1.0)), ["(4, 2, 3, 3)", "to_event"]),
    "vectors": (lambda: Mine(lambda mean: normal(mean.reshape(1, 1, 1, 72))), ["72)", "Reshaped"]),
    "nothing": (lambda: Mine(lambda mean: None), ["None"]),
    "of torch": (lambda: Mine(lambda mean: torch_dist.Normal(mean, 1.0)), ["torch.distributions", "Normal"]),
    "a parameter left empty": (lambda: Forgetful(normal), ["log_scale", "self.fill"]),
    "no start": (lambda: Silent(SITES), ["start_site"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_guide_is_refused_with_class_site_and_cure(mistake: str) -> None:
    build, tokens = MISTAKES[mistake]
    guide = build()
    with refuses(type(guide).__name__, *tokens, error=ConfigError):
        started(guide, START)()


def test_a_guide_without_a_distribution_cannot_be_built() -> None:
    with pytest.raises(TypeError, match="distribution"):
        type("Unfinished", (Guide,), {})(SITES)


def test_the_guide_of_the_documentation_has_one_width_for_a_kernel() -> None:
    guide = example("per_kernel_guide", "PerKernel")(SITES, relative_scale=0.05)
    guide.start(lambda: START, Gaussian())
    torch.testing.assert_close(guide.distribution("w.x").variance, torch.full((4, 2, 3, 3), 0.05**2))
    logs = torch.arange(8.0).reshape(4, 2, 1, 1)
    guide.fill("log_scale", "w.x", logs)
    torch.testing.assert_close(guide.distribution("w.x").variance.sqrt(), logs.exp().expand(4, 2, 3, 3))
