"""Maximum likelihood of a flow: it learns what a Student t lacks, keeps its best state, and resumes."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pyro_dwp.errors import TrainingError
from pyro_dwp.kernels.densities import fit_student_t
from pyro_dwp.priors import FlowDensity
from pyro_dwp.train import DensityTask, Schedule, fit

SCALE = 0.1


def bent(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return kernels (n, 1, 2), the second entry around the square of the first, and their exact log density."""
    first, noise = torch.randn(2, count, generator=torch.Generator().manual_seed(seed))
    second = 0.7 * first.square() + 0.3 * noise
    log_density = -0.5 * (first.square() + noise.square()) - torch.tensor(2 * torch.pi * 0.3 * SCALE**2).log()
    return SCALE * torch.stack([first, second], 1)[:, None], log_density


def a_task(rate: float = 1e-2, count: int = 3000) -> DensityTask:
    torch.manual_seed(0)
    kernels, _ = bent(count)
    density = FlowDensity((1, 2), transforms=2, hidden=32).start_from(fit_student_t(kernels.flatten(1).double()))
    return DensityTask(density, kernels, bent(500, seed=1)[0], rate)


def test_a_flow_comes_near_a_density_that_no_student_t_describes(tmp_path: Path) -> None:
    task = a_task()
    kernels, truth = bent(4000, seed=2)
    before = float((truth - task.density.distribution().log_prob(kernels).detach()).mean())
    fit(task, Schedule(epochs=10, batch_size=100, learning_rate=1e-2), tmp_path, 0, False, progress=False)
    task.finish()
    after = float((truth - task.density.distribution().log_prob(kernels).detach()).mean())
    assert before > 0.5
    assert after < 0.3 * before


def test_the_loss_is_minus_the_mean_log_density_in_nats_per_kernel() -> None:
    task = a_task()

    def loss(kernels: Tensor) -> float:
        return -float(task.density.distribution().log_prob(kernels).detach().mean())

    assert task.validate()["loss"] == pytest.approx(loss(task.validation), abs=1e-5)
    before = loss(task.training[:100])
    assert task.step(torch.arange(100))["loss"] == pytest.approx(before, abs=1e-5)


def test_the_state_that_was_best_on_the_validation_kernels_is_taken() -> None:
    task = a_task(rate=0.0)
    best = task.validate()["loss"]
    good = copy.deepcopy(task.density.state_dict())
    for parameter in task.density.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    assert task.validate()["loss"] > best
    task.finish()
    assert all(torch.equal(value, good[name]) for name, value in task.density.state_dict().items())


def test_a_resumed_fit_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    def run(folder: str, epochs: int, resume: bool) -> dict[str, Tensor]:
        task = a_task(count=300)
        fit(task, Schedule(epochs=epochs, batch_size=100), tmp_path / folder, 0, resume, progress=False)
        task.finish()
        return task.density.state_dict()

    whole = run("whole", 4, False)
    run("parts", 2, False)
    parts = run("parts", 4, True)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_every_parameter_gets_a_gradient_after_the_first_step() -> None:
    task = a_task()
    task.step(torch.arange(100))
    before = {name: value.clone() for name, value in task.density.named_parameters()}
    task.step(torch.arange(100))
    moved = [name for name, value in task.density.named_parameters() if not torch.equal(value, before[name])]
    assert moved == list(before)


def test_a_diverging_fit_ends_in_an_error_that_says_so(tmp_path: Path) -> None:
    task = a_task(rate=1e30)
    schedule = Schedule(epochs=3, batch_size=100, learning_rate=1e30)
    with pytest.raises(TrainingError, match=r"not finite.*schedule\.learning_rate"):
        fit(task, schedule, tmp_path, 0, False, progress=False)


def test_an_error_of_another_cause_is_raised_as_it_is() -> None:
    task = a_task()
    task.training = task.training[..., :1]
    with pytest.raises((ValueError, RuntimeError)):
        task.step(torch.arange(10))
