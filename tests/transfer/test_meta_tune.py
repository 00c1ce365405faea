"""Meta-gradients against closed forms, naive fine-tuning against its expectation, and trainings that resume exactly."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pyro_dwp.data import Prepared
from pyro_dwp.errors import ConfigError, Interrupted
from pyro_dwp.nn import FCN, UNet
from pyro_dwp.train import Schedule, fit
from pyro_dwp.train.checkpoint import FILE
from pyro_dwp.train.point import validation_scores
from pyro_dwp.transfer import MetaTask, MetaTuning
from pyro_dwp.transfer.meta_tune import adapt, balanced_cross_entropy, meta_loss
from tests.helpers.refusal import refuses

RATE, SIZE = 0.3, 4
ORDERS = ["naive", "passive", "active"]


def quadratic() -> tuple[Tensor, Tensor]:
    """Return A, symmetric and positive, and c of L(θ) = ½ (θ − c)ᵀ A (θ − c), float64."""
    root = torch.randn(SIZE, SIZE, dtype=torch.float64)
    return root @ root.T / SIZE + torch.eye(SIZE), torch.randn(SIZE, dtype=torch.float64)


def loss_of(a: Tensor, c: Tensor):
    return lambda theta: 0.5 * (theta["x"] - c) @ a @ (theta["x"] - c)


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("first_order", [False, True], ids=["second order", "first order"])
def test_the_meta_gradient_of_quadratics_has_its_closed_form(first_order: bool, steps: int) -> None:
    theta = {"x": torch.randn(SIZE, dtype=torch.float64, requires_grad=True)}
    expected = torch.zeros(SIZE, dtype=torch.float64)
    for _ in range(3):  # Σ_i (I − α A_i)^k A'_i (θ'_i − c'_i), without the first factor in first order
        (a, c), (a_outer, c_outer) = quadratic(), quadratic()
        meta_loss(loss_of(a, c), loss_of(a_outer, c_outer), RATE, steps, first_order)(theta).backward()
        shrink = torch.linalg.matrix_power(torch.eye(SIZE) - RATE * a, steps)
        adapted = c + shrink @ (theta["x"].detach() - c)
        torch.testing.assert_close(adapt(loss_of(a, c), theta, RATE, steps)["x"].detach(), adapted)
        slope = a_outer @ (adapted - c_outer)
        expected += slope if first_order else shrink @ slope
    torch.testing.assert_close(theta["x"].grad, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("recompute", [False, True])
def test_the_meta_gradient_of_a_network_is_that_of_finite_differences(recompute: bool) -> None:
    task = make("passive", network=UNet(channels=(2, 3), recompute=recompute).double(), inner_rate=0.05)
    (loss,) = task._losses([0])
    direction = {name: torch.randn_like(value) for name, value in task.theta.items()}
    loss(task.theta).backward()
    slope = sum(float((value.grad * direction[name]).sum()) for name, value in task.theta.items())
    step = 1e-8  # small, since a larger one would meet kinks of ReLU
    moved = [{name: value + sign * step * direction[name] for name, value in task.theta.items()} for sign in (1, -1)]
    ahead, behind = (loss(theta).item() for theta in moved)
    assert (ahead - behind) / (2 * step) == pytest.approx(slope, rel=1e-5)


def scans(number: int = 5, edge: int = 8) -> list[Prepared]:
    """Return cases with a bright ball of growing size."""
    place = torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, edge)] * 3, indexing="ij")).square().sum(0)
    made = []
    for i in range(number):
        label = (place < 0.3 + 0.2 * i).long()
        image = (label + 0.3 * torch.randn(label.shape))[None]
        made.append(Prepared(f"scan_{i}", image, label, np.eye(4), (edge,) * 3, ((0, edge),) * 3))
    return made


def make(order: str, network: nn.Module | None = None, batch_size: int = 2, **settings: object) -> MetaTask:
    """Return a task on five scans in a network of its own, always the same."""
    torch.manual_seed(0)
    network = network or UNet(channels=(2, 4))
    cases = [replace(case, image=case.image.to(next(network.parameters()).dtype)) for case in scans()]
    return MetaTask(network, cases, cases[:1], MetaTuning(order=order, **settings), 1e-2, batch_size, noisy)


def noisy(case: Prepared) -> Prepared:
    return replace(case, image=case.image + 0.1 * torch.randn_like(case.image))


@pytest.mark.parametrize("order", ORDERS)
def test_each_order_lowers_the_loss(order: str) -> None:
    task = make(order, UNet(channels=(4, 8)))
    before = task.validate()["loss"]
    for _ in range(20):
        task.step(torch.randperm(5)[:2])
    assert task.validate()["loss"] < before - 0.05


def test_active_order_starts_with_the_task_where_the_source_network_is_worst_and_passive_with_the_one_given() -> None:
    active, passive = make("active"), make("passive")
    dice = [validation_scores([active.draw()], [task])["dice"] for task in active.tasks]
    assert active.source_dice == passive.source_dice == dict(zip([f"scan_{i}" for i in range(5)], dice, strict=True))
    median = np.median(dice)
    drawn = torch.tensor([3, 0])
    first = active.meta_batch(drawn)
    assert dice[first[0]] == min(dice) < median <= dice[first[1]]
    assert passive.meta_batch(drawn) == [3, 0]
    active.step(drawn)
    assert active.meta_batch(drawn) != first


@pytest.mark.parametrize("order", ORDERS)
def test_a_training_stopped_within_a_step_is_resumed_bit_for_bit(order: str, tmp_path: Path, monkeypatch) -> None:
    """Meta-batches have three of ten tasks, so that active order is in the middle of a round wherever an epoch ends."""

    def run(name: str) -> dict[str, Tensor]:
        task, schedule = make(order, batch_size=3, tasks_per_scan=2), Schedule(epochs=3, batch_size=3)
        fit(task, schedule, tmp_path / name, seed=1, resume=(tmp_path / name).exists(), progress=False)
        return load_file(tmp_path / name / FILE)

    def stop(self: MetaTask, indices: Tensor) -> dict[str, float]:
        if self.turn == 5:  # in the second epoch of active and passive order, in the third of naive
            torch.rand(3)
            raise KeyboardInterrupt
        return step(self, indices)

    whole, step = run("whole"), MetaTask.step
    monkeypatch.setattr(MetaTask, "step", stop)
    with pytest.raises(Interrupted):
        run("stopped")
    monkeypatch.setattr(MetaTask, "step", step)
    stopped = run("stopped")
    assert whole.keys() == stopped.keys()
    assert all(torch.equal(whole[key], stopped[key]) for key in whole)


@pytest.mark.parametrize("order", ORDERS)
def test_frozen_parameters_keep_their_values(order: str) -> None:
    network = UNet(channels=(2, 4))
    frozen = {name for name in network.state_dict() if name.startswith(("down", "up"))}
    for name in frozen:
        network.get_parameter(name).requires_grad_(False)
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    task = make(order, network)
    task.step(torch.tensor([0, 1]))
    same = {name for name, value in before.items() if torch.equal(value, task.network.network.get_parameter(name))}
    assert same == frozen


@pytest.mark.parametrize("network", [FCN(width=1), UNet(channels=(2, 4), ndim=2)], ids=["fcn", "unet"])
@pytest.mark.parametrize("order", ORDERS)
def test_networks_of_slices_learn_from_half_of_a_slab_in_each_loop(order: str, network: nn.Module, monkeypatch) -> None:
    task, seen = make(order, network, tasks_per_scan=2), []
    monkeypatch.setattr(task, "_on", lambda cases, loss: seen.extend(cases) or MetaTask._on(task, cases, loss))
    assert np.isfinite(task.step(torch.tensor([0, 1]))["loss"])
    assert [case.image.shape[-1] for case in seen] == ([8, 8] if order == "naive" else [2] * 4)


def test_balanced_points_have_the_mean_over_classes_of_the_cross_entropy_as_their_expectation() -> None:
    logits, label = torch.randn(2, 3, 5, 6), (torch.rand(2, 5, 6) > 0.8).long() * 2  # class 1 does not occur
    each = torch.nn.functional.cross_entropy(logits, label, reduction="none")
    expected = torch.stack([each[label == value].mean() for value in (0, 2)]).mean()
    drawn = torch.stack([balanced_cross_entropy(logits, label, points=20) for _ in range(2000)])
    error = drawn.std() / len(drawn) ** 0.5
    assert abs(drawn.mean() - expected) < 4 * error
    assert abs(each.mean() - expected) > 20 * error


def test_active_order_with_meta_batches_of_one_task_is_refused() -> None:
    with refuses("batch_size is 1", "--order passive", error=ConfigError):
        make("active", batch_size=1)
    assert make("active", batch_size=4, tasks_per_scan=4).size == 20


@pytest.mark.parametrize(
    "settings", [{"inner_rate": 0.0}, {"inner_steps": 0}, {"order": "actve"}, {"tasks_per_scan": 0}]
)
def test_impossible_settings_are_refused(settings: dict) -> None:
    with refuses("MetaTuning", *settings, error=ConfigError):
        MetaTuning(**settings)
