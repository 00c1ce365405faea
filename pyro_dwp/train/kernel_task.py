"""Training of an autoencoder on one group of kernels: the step that fits a deep weight prior."""

from typing import Protocol

import torch
from torch import Tensor, nn

from pyro_dwp.train.optim import JointAdam


class KernelProgram(Protocol):
    """An autoencoder of kernels, such as `models.kernel_vae.KernelVAE`, which is also a Pyro program."""

    def loss(self, kernels: Tensor) -> Tensor:
        """Return minus the ELBO of each kernel in nats, (B,), for kernels (B, T); random, and differentiable."""
        ...


class KernelTask:
    """Stochastic variational inference of an autoencoder of kernels; a `Task` for `fit`.

    The loss is minus the ELBO in nats per kernel, with the exact KL(r(z|w) ‖ p(z)). Validation draws the same latents every
    time, so that it shows progress and not chance.

    Args:
        vae: module with `loss(kernels)`; trained in place.
        training: kernels to fit, (n, T), in the units of the weights.
        validation: kernels whose loss is followed, and controls the learning rate where it falls on a plateau, (m, T).
        learning_rate: Adam's, per step; dimensionless.
        validation_seed: of the latents drawn at each validation.
        batch: kernels evaluated at once in validation.
    """

    def __init__(
        self,
        vae: KernelProgram,
        training: Tensor,
        validation: Tensor,
        learning_rate: float,
        validation_seed: int = 0,
        batch: int = 4096,
    ) -> None:
        self.training, self.validation = training.flatten(1), validation.flatten(1)
        self.size, self.validation_seed, self.batch, self.vae = len(training), validation_seed, batch, vae
        module = _as_module(vae)
        self.modules: dict[str, nn.Module] = {"vae": module}
        self.adam = JointAdam({"vae": [module]}, rates={"vae": learning_rate})
        self.optimiser: torch.optim.Optimizer = self.adam.optimiser

    def step(self, indices: Tensor) -> dict[str, Tensor]:
        """Take one step on the kernels of these indices and return the loss, the mean over them."""
        loss = self.vae.loss(self.training[indices]).mean()
        loss.backward()
        self.adam(())
        return {"loss": loss.detach()}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return minus the ELBO over the validation kernels, in nats per kernel."""
        with torch.random.fork_rng(devices=[self.validation.device] if self.validation.is_cuda else []):
            torch.manual_seed(self.validation_seed)
            losses = [self.vae.loss(part) for part in self.validation.split(self.batch)]
        return {"loss": float(torch.cat(losses).mean())}


def _as_module(vae: KernelProgram) -> nn.Module:
    if not isinstance(vae, nn.Module):
        raise TypeError(
            f"An autoencoder of kernels must be a torch module that holds its parameters, but is a {type(vae).__name__}."
        )
    return vae
