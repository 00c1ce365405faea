"""`JointAdam` under `pyro.infer.SVI`."""

import copy

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.nn import PyroModule, PyroParam, pyro_method
from torch import nn

from pyro_dwp.errors import ConfigError
from pyro_dwp.train import JointAdam


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


def test_it_takes_the_steps_of_pyros_adam() -> None:
    ours, theirs = Program(), Program()
    for program, optimiser in (
        (ours, JointAdam({"theta": [ours]}, 1e-2)),
        (theirs, pyro.optim.Adam({"lr": 1e-2})),
    ):
        for parameter in program.parameters():
            parameter.unconstrained = lambda parameter=parameter: parameter
        pyro.set_rng_seed(1)
        inference = svi(program, optimiser)
        for _ in range(20):
            inference.step()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_each_group_has_its_own_rate() -> None:
    program, other = Program(), nn.Linear(2, 1)
    adam = JointAdam({"theta": [program], "psi": [other]}, {"theta": 1e-3, "psi": 1e-4})
    assert {group["name"]: group["lr"] for group in adam.optimiser.param_groups} == {"theta": 1e-3, "psi": 1e-4}


def test_plain_parameters_of_a_module_can_be_trained_by_svi() -> None:
    program = Program()
    inference = svi(program, JointAdam({"theta": [program]}, 0.05))
    for _ in range(200):
        inference.step()
    assert program.mean.item() == pytest.approx(0.0, abs=0.2)


def test_a_parameter_that_no_group_holds_is_an_error_with_its_shape() -> None:
    program = Program()
    inference = svi(program, JointAdam({"psi": [nn.Linear(2, 1)]}, 1e-3))
    for parameter in program.parameters():
        parameter.unconstrained = lambda parameter=parameter: parameter
    with pytest.raises(ConfigError, match=r"2 parameter\(s\) that no group.*\(\), \(\).*'psi'"):
        inference.step()


def test_a_parameter_that_two_groups_reach_belongs_to_the_first() -> None:
    layer = nn.Linear(2, 1)
    adam = JointAdam({"theta": [layer], "psi": [nn.Sequential(layer)]}, 1e-3)
    assert [group["name"] for group in adam.optimiser.param_groups] == ["theta"]


def test_frozen_parameters_are_left_alone() -> None:
    layer = nn.Linear(2, 1)
    layer.bias.requires_grad_(False)
    assert len(JointAdam({"theta": [layer]}, 1e-3).optimiser.param_groups[0]["params"]) == 1


def test_each_groups_gradient_is_clipped_by_itself() -> None:
    large, small = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    adam = JointAdam({"theta": [large], "psi": [small]}, 1e-3, clip_norm=1.0)
    large.weight.grad, small.weight.grad = torch.full((1, 1), 100.0), torch.full((1, 1), 0.5)
    seen: list[float] = []
    adam.optimiser.register_step_pre_hook(lambda *_: seen.extend([large.weight.grad.item(), small.weight.grad.item()]))
    adam([])
    assert seen == pytest.approx([1.0, 0.5], rel=1e-4)


def test_gradients_are_cleared_after_a_step() -> None:
    layer = nn.Linear(1, 1)
    adam = JointAdam({"theta": [layer]}, 1e-3)
    layer(torch.ones(1, 1)).sum().backward()
    adam(list(layer.parameters()))
    assert all(parameter.grad is None for parameter in layer.parameters())


def test_a_module_can_still_be_deep_copied() -> None:
    layer = nn.Linear(1, 1)
    JointAdam({"theta": [layer]}, 1e-3)
    assert torch.equal(copy.deepcopy(layer).weight, layer.weight)


@pytest.mark.parametrize(
    ("groups", "rates", "message"),
    [
        ({"theta": [nn.Linear(1, 1)]}, {"psi": 1e-3}, "groups are .*theta.* rates .*psi"),
        ({"theta": [nn.ReLU()]}, 1e-3, "hold none to train"),
    ],
)
def test_groups_that_cannot_be_trained_are_refused(groups: dict, rates: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        JointAdam(groups, rates)


@pytest.mark.parametrize("wrong", [-1e-3, float("nan"), float("inf")])
def test_a_number_outside_its_range_is_refused(wrong: float) -> None:
    layer = nn.Linear(1, 1)
    with pytest.raises(ConfigError, match=f"numbers from 0 on.*'psi': {wrong}"):
        JointAdam({"theta": [layer], "psi": [nn.Linear(1, 1)]}, {"theta": 1e-3, "psi": wrong})
    with pytest.raises(ConfigError, match=f"weight_decay.*{wrong}"):
        JointAdam({"theta": [layer]}, 1e-3, weight_decay=wrong)
