"""The two trainings behind learned priors, maximum likelihood of a flow and SVI of an autoencoder, as tasks of `fit`."""

import copy
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from models.kernel_vae import KernelVAE
from pyro_dwp.errors import TrainingError
from pyro_dwp.kernels.densities import fit_student_t
from pyro_dwp.priors import DeepWeightDensity, FlowDensity
from pyro_dwp.train import DensityTask, KernelTask, Schedule, fit, held_out_log_density
from tests.helpers.refusal import refuses

SCALE = 0.1


def bent(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return kernels (n, 1, 2), the second entry around the square of the first, and their exact log density."""
    first, noise = torch.randn(2, count, generator=torch.Generator().manual_seed(seed))
    second = 0.7 * first.square() + 0.3 * noise
    log_density = -0.5 * (first.square() + noise.square()) - torch.tensor(2 * torch.pi * 0.3 * SCALE**2).log()
    return SCALE * torch.stack([first, second], 1)[:, None], log_density


def flow_task(rate: float = 1e-2) -> DensityTask:
    torch.manual_seed(0)
    kernels, _ = bent(3000)
    density = FlowDensity((1, 2), transforms=2, hidden=32).start_from(fit_student_t(kernels.flatten(1).double()))
    return DensityTask(density, kernels, bent(500, seed=1)[0], rate)


def kernel_task(rate: float = 3e-3, variant: str = "dense", kernels: Tensor | None = None) -> KernelTask:
    kernels = torch.randn(1000, 3, 3) if kernels is None else kernels
    vae = KernelVAE(DeepWeightDensity((3, 3), variant, 2, 32, float(kernels.std())))
    return KernelTask(vae, kernels[:-500], kernels[-500:], rate)


TASKS = {"flow": flow_task, "dense": kernel_task, "paper": lambda rate=3e-3: kernel_task(rate, "paper")}


def test_a_flow_comes_near_a_density_that_no_student_t_describes(tmp_path: Path) -> None:
    task, (kernels, truth) = flow_task(), bent(4000, seed=2)
    before = float((truth - held_out_log_density(task.density, kernels)).mean())
    fit(task, Schedule(epochs=5, batch_size=100, learning_rate=1e-2), tmp_path, 0, False, progress=False)
    task.finish()
    assert before > 0.5
    assert float((truth - held_out_log_density(task.density, kernels)).mean()) < 0.3 * before


def test_an_autoencoder_learns_a_low_rank_gaussian() -> None:
    matrix = torch.randn(9, 2)
    truth = MultivariateNormal(torch.zeros(9), 0.01 * (matrix @ matrix.T + 0.1 * torch.eye(9)))
    kernels, held_out = truth.sample((4500,)), truth.sample((1000,))
    density = DeepWeightDensity((3, 3), "dense", 2, 32, float(kernels.std()))
    task = KernelTask(KernelVAE(density), kernels[:-500], kernels[-500:], 1e-2)
    for _ in range(12):
        for indices in torch.randperm(task.size).split(200):
            task.step(indices)
    assert float((truth.log_prob(held_out) - held_out_log_density(density, held_out, 100)).mean()) < 0.3


def test_the_loss_is_in_nats_per_kernel_whatever_the_batch() -> None:
    """That of a flow is minus the mean log density, exactly; that of an autoencoder is the same in mean."""
    task = flow_task()
    expected = [-held_out_log_density(task.density, x).mean().item() for x in (task.validation, task.training[:100])]
    found = [task.validate()["loss"], float(task.step(torch.arange(100))["loss"])]
    assert found == pytest.approx(expected, abs=1e-5)
    still = kernel_task(rate=0.0, kernels=torch.randn(2500, 3, 3))
    parts = [float(still.step(indices)["loss"]) for indices in torch.arange(2000).split(100)]
    assert sum(parts) / len(parts) == pytest.approx(float(still.step(torch.arange(2000))["loss"]), rel=0.02)


def test_the_state_that_was_best_on_the_validation_kernels_is_taken() -> None:
    task = flow_task(rate=0.0)
    best, good = task.validate()["loss"], copy.deepcopy(task.density.state_dict())
    for parameter in task.density.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    assert task.validate()["loss"] > best
    task.finish()
    assert all(torch.equal(value, good[name]) for name, value in task.density.state_dict().items())


@pytest.mark.parametrize("name", TASKS)
def test_validation_repeats_itself_without_a_draw_and_every_parameter_moves_after_the_first_step(name: str) -> None:
    """A flow starts as the identity, so that its first step moves its last layers alone."""
    task = TASKS[name]()
    state = torch.get_rng_state()
    assert task.validate() == task.validate()
    assert torch.equal(torch.get_rng_state(), state)
    task.step(torch.arange(100))
    parameters = dict(next(iter(task.modules.values())).named_parameters())
    before = {name: value.clone() for name, value in parameters.items()}
    task.step(torch.arange(100))
    assert [name for name, value in parameters.items() if torch.equal(value, before[name])] == []


@pytest.mark.filterwarnings("ignore:Encountered NaN")
@pytest.mark.parametrize(("name", "rate"), [("flow", 1e30), ("dense", 1e6), ("dense", 1e30)])
def test_a_diverging_training_ends_in_an_error_that_says_so(tmp_path: Path, name: str, rate: float) -> None:
    schedule = Schedule(epochs=5, batch_size=50, learning_rate=rate)
    with refuses("not finite", "schedule.learning_rate", error=TrainingError):
        fit(TASKS[name](rate), schedule, tmp_path, 0, False, progress=False)


def test_an_error_that_is_no_divergence_is_raised_as_it_is() -> None:
    flow, autoencoder = flow_task(), kernel_task()
    flow.training = flow.training[..., :1]
    with pytest.raises((ValueError, RuntimeError)):
        flow.step(torch.arange(10))
    autoencoder.vae.loss = Mock(side_effect=ValueError("a mistake"))
    with pytest.raises(ValueError, match="a mistake"):
        autoencoder.step(torch.arange(10))
