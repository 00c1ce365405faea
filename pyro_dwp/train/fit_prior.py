"""Fit a learned prior's densities by gradients, and evaluate them on held-out kernels.

Axis letters: n kernels, K edge of a kernel, M draws of z.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from pyro_dwp.checks import checked
from pyro_dwp.distributions import ImplicitPrior
from pyro_dwp.errors import ConfigError
from pyro_dwp.infer.bounds import importance_bound
from pyro_dwp.priors import GroupDensity
from pyro_dwp.priors.density import Trained
from pyro_dwp.train.density_task import DensityTask
from pyro_dwp.train.kernel_task import KernelProgram, KernelTask
from pyro_dwp.train.loop import Task, fit
from pyro_dwp.train.schedule import Schedule

CHUNK = 8192
LATENTS_AT_ONCE = 16384


class GradientTrainer:
    """What `Fit.fit` trains a group's density with; a `pyro_dwp.priors.Trainer` that keeps checkpoints.

    Args:
        program: makes the Pyro program of an autoencoder from a density with the attributes `encoder`, `decoder` and
            `latent_dim`, such as `models.kernel_vae.KernelVAE`.
        folder: of this group; the checkpoints go there.
        schedule: length, batch size and learning rate.
        seed: of initialisation and of the order of the kernels.
        resume: continue from the checkpoint in `folder`.
        device: where to compute.
    """

    def __init__(
        self,
        program: Callable[[GroupDensity], KernelProgram],
        folder: Path,
        schedule: Schedule,
        seed: int = 0,
        resume: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        self.program, self.folder, self.schedule = program, folder, schedule
        self.seed, self.resume, self.device = seed, resume, torch.device(device)

    def maximise_likelihood(self, density: GroupDensity, training: Tensor, validation: Tensor) -> Trained:
        """Train a density that has a `log_prob`; the state that was best on the validation kernels is kept.

        Args:
            density: with parameters; moved to the device and trained in place.
            training: kernels to fit, (n, K, ...).
            validation: kernels whose loss controls the learning rate, (m, K, ...).
        """
        task = DensityTask(density.to(self.device), training, validation, self.schedule.learning_rate)
        trained = self._fit(task)
        task.finish()
        return trained

    def autoencode(self, density: GroupDensity, training: Tensor, validation: Tensor) -> Trained:
        """Train the encoder and decoder of a density by SVI of the program.

        Args:
            density: moved to the device and trained in place.
            training: kernels to fit, (n, K, ...).
            validation: kernels whose loss controls the learning rate, (m, K, ...).
        """
        program = self.program(density.to(self.device))
        kernels = training.to(self.device), validation.to(self.device)
        return self._fit(KernelTask(program, *kernels, self.schedule.learning_rate))

    def _fit(self, task: Task) -> Trained:
        history = fit(task, self.schedule, self.folder, self.seed, self.resume)
        return Trained(len(history.rows), history.seconds)


@checked
@torch.no_grad()
def held_out_log_density(
    density: GroupDensity, kernels: Tensor, draws: Annotated[int, Ge(1), Le(100_000)] = 1000, seed: int = 0
) -> Tensor:
    """Return the log density of kernels in nats: exact, or a lower bound where the distribution is implicit.

    The bound is the importance-weighted one, with z_m ~ r(z|w) from the density's own encoder,

        log (1/M) Σ_m p(w | z_m) p(z_m) / r(z_m | w)

    It is random and, in expectation, below log p(w); it comes closer as M grows.

    Args:
        density: of a group.
        kernels: held-out kernels, (n, K, ...), in units of the weights.
        draws: M, for an implicit distribution.
        seed: of these draws; torch's global generator is left as it was.

    Returns:
        (n,), float64, on the CPU.

    Raises:
        ConfigError: if draws is below 1, or the density is implicit and has no encoder.

    References:
        Burda, Grosse, Salakhutdinov 2016, Importance Weighted Autoencoders.
    """
    template = next(value for value in density.state_dict().values() if value.is_floating_point())
    kernels, prior = kernels.to(template), density.distribution()
    if not isinstance(prior, ImplicitPrior):
        return torch.cat([prior.log_prob(chunk) for chunk in kernels.split(CHUNK)]).double().cpu()
    encoder = getattr(density, "encoder", None)
    if not isinstance(encoder, nn.Module):
        raise ConfigError(
            f"{type(density).__name__} has no log density, and the bound on it needs r(z|w). Give it an attribute `encoder`, a "
            "module from kernels (N, T) to mean and log standard deviation of z."
        )
    chunks = kernels.flatten(1).split(max(1, LATENTS_AT_ONCE // draws))
    with torch.random.fork_rng(devices=[template.device] if template.is_cuda else []):
        torch.manual_seed(seed)
        bounds = [
            importance_bound(chunk, encoder, prior.conditional_log_prob, draws, doubly_reparametrised=False).total
            for chunk in chunks
        ]
    return -torch.cat(bounds).double().cpu()
