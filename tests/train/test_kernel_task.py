import pytest
import torch
from torch.distributions import MultivariateNormal

from models.kernel_vae import KernelVAE, importance_bounds
from pyro_dwp.errors import TrainingError
from pyro_dwp.nn.kernel_coders import build_coders
from pyro_dwp.train import Schedule, fit
from pyro_dwp.train.kernel_task import KernelTask


def a_task(kernels, variant="dense"):
    return KernelTask(
        KernelVAE(build_coders(variant, (3, 3), 2, float(kernels.std()), hidden=32)),
        kernels[:-500],
        kernels[-500:],
        3e-3,
    )


def test_the_autoencoder_learns_a_low_rank_gaussian():
    matrix = torch.randn(9, 2)
    truth = MultivariateNormal(torch.zeros(9), 0.01 * (matrix @ matrix.T + 0.1 * torch.eye(9)))
    kernels, held_out = truth.sample((4500,)), truth.sample((1000,))
    task = a_task(kernels)
    for _ in range(15):
        for indices in torch.randperm(task.size).split(100):
            task.step(indices)
    gap = truth.log_prob(held_out) - importance_bounds(task.modules["vae"], held_out, 100)
    assert float(gap.mean()) < 0.3


def test_the_loss_is_in_nats_per_kernel_whatever_the_batch():
    task = a_task(torch.randn(2500, 3, 3))
    task.optimiser.param_groups[0]["lr"] = 0.0
    whole = task.step(torch.arange(2000))["loss"]
    parts = [task.step(indices)["loss"] for indices in torch.arange(2000).split(100)]
    assert sum(parts) / len(parts) == pytest.approx(whole, rel=0.02)


def test_validation_repeats_itself_and_leaves_the_random_numbers_alone():
    task = a_task(torch.randn(1000, 3, 3))
    state = torch.get_rng_state()
    assert task.validate() == task.validate()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("variant", ["paper", "dense"])
def test_a_step_moves_every_parameter_that_the_output_depends_on(variant):
    task = a_task(torch.randn(600, 3, 3), variant)
    before = {name: value.clone() for name, value in task.modules["vae"].named_parameters()}
    task.step(torch.arange(50))
    assert [name for name, value in task.modules["vae"].named_parameters() if torch.equal(value, before[name])] == []


@pytest.mark.filterwarnings("ignore:Encountered NaN")
@pytest.mark.parametrize("rate", [1e6, 1e30])
def test_a_diverging_training_ends_in_an_error_that_says_so(tmp_path, rate):
    task = KernelTask(KernelVAE(build_coders("dense", (3, 3), 2, 0.1)), *torch.randn(600, 3, 3).split(500), rate)
    with pytest.raises(TrainingError, match=r"not finite.*schedule\.learning_rate"):
        fit(task, Schedule(epochs=5, batch_size=50, learning_rate=rate), tmp_path, 0, False, progress=False)


def test_a_value_error_that_is_no_divergence_is_raised_as_it_is():
    task = a_task(torch.randn(600, 3, 3))
    task.svi.model = lambda kernels, total: (_ for _ in ()).throw(ValueError("a mistake in the program"))
    with pytest.raises(ValueError, match="a mistake in the program"):
        task.step(torch.arange(10))
