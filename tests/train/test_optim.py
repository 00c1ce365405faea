"""`JointAdam` under `SVI`."""

import copy

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO
from pyro.nn import PyroModule, PyroParam, pyro_method
from torch import nn

from pyro_dwp.errors import ConfigError
from pyro_dwp.train import SVI, JointAdam
from tests.helpers.refusal import refuses


class Program(PyroModule):
    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.tensor(0.3))
        self.scale = PyroParam(torch.tensor(0.5), constraint=dist.constraints.positive)

    @pyro_method
    def model(self) -> None:
        pyro.sample("w", dist.Normal(0.0, 1.0))

    @pyro_method
    def guide(self) -> None:
        pyro.sample("w", dist.Normal(self.mean, self.scale))


def svi(program: Program, optimiser: pyro.optim.PyroOptim) -> SVI:
    return SVI(program.model, program.guide, optimiser, Trace_ELBO())


@pytest.fixture
def layer() -> nn.Linear:
    return nn.Linear(1, 1)


def test_it_takes_the_steps_of_pyros_adam_towards_the_prior() -> None:
    ours, theirs = Program(), Program()
    for program, optimiser in ((ours, JointAdam({"posterior": [ours]}, 0.05)), (theirs, pyro.optim.Adam({"lr": 0.05}))):
        pyro.set_rng_seed(1)
        inference = svi(program, optimiser)
        for _ in range(200):
            inference.step()
    torch.testing.assert_close([*ours.parameters()], [*theirs.parameters()])  # fused, it rounds differently
    assert ours.mean.item() == pytest.approx(0.0, abs=0.2)


def test_each_group_has_its_own_rate_and_a_parameter_that_two_reach_belongs_to_the_first(layer: nn.Linear) -> None:
    layer.bias.requires_grad_(False)
    groups = {"posterior": [layer], "encoders": [nn.Linear(2, 1)], "none": [nn.Sequential(layer)]}
    adam = JointAdam(groups, {"posterior": 1e-3, "encoders": 1e-4, "none": 0.0})
    found = {group["name"]: (group["lr"], len(group["params"])) for group in adam.optimiser.param_groups}
    assert found == {"posterior": (1e-3, 1), "encoders": (1e-4, 2)}  # without the frozen bias
    assert torch.equal(copy.deepcopy(layer).weight, layer.weight)


def test_each_groups_gradient_is_clipped_by_itself_and_cleared_after_the_step(layer: nn.Linear) -> None:
    other = nn.Linear(1, 1)
    adam = JointAdam({"posterior": [layer], "encoders": [other]}, 1e-3, clip_norm=1.0)
    layer.weight.grad, other.weight.grad = torch.full((1, 1), 100.0), torch.full((1, 1), 0.5)
    seen: list[float] = []
    adam.optimiser.register_step_pre_hook(lambda *_: seen.extend([layer.weight.grad.item(), other.weight.grad.item()]))
    adam([])
    assert seen == pytest.approx([1.0, 0.5], rel=1e-4)
    assert layer.weight.grad is other.weight.grad is None


def test_a_parameter_that_no_group_holds_is_an_error_with_its_shape(layer: nn.Linear) -> None:
    with refuses("2 parameter(s)", "(), ()", "'encoders'", error=ConfigError):
        svi(Program(), JointAdam({"encoders": [layer]}, 1e-3)).step()


@pytest.mark.parametrize(
    ("groups", "settings", "tokens"),
    [
        ({"posterior": [nn.Linear(1, 1)]}, {"rates": {"encoders": 1e-3}}, ("posterior", "encoders")),
        ({"posterior": [nn.ReLU()]}, {"rates": 1e-3}, ("posterior",)),
        *(
            (
                {name: [nn.Linear(1, 1)] for name in ("posterior", "encoders")},
                {"rates": {"posterior": 1e-3, "encoders": x}},
                ("encoders",),
            )
            for x in (-1e-3, float("nan"), float("inf"))
        ),
        *(
            ({"posterior": [nn.Linear(1, 1)]}, {"rates": 1e-3, name: x}, (name,))
            for name in ("weight_decay", "clip_norm")
            for x in (-1e-3, float("nan"), float("inf"))
        ),
        ({"posterior": [nn.Linear(1, 1)]}, {"rates": 1e-3, "clip_norm": 0.0}, ("clip_norm",)),
    ],
)
def test_groups_and_numbers_that_cannot_be_trained_with_are_refused(groups, settings, tokens):
    with refuses(*tokens, error=ConfigError):
        JointAdam(groups, **settings)
