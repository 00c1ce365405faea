"""SVI of an autoencoder on one group of kernels: the step that fits a deep weight prior."""

from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
from pyro.infer import TraceMeanField_ELBO
from torch import Tensor, nn

from pyro_dwp.train.nonfinite import loss_or_nan
from pyro_dwp.train.optim import JointAdam
from pyro_dwp.train.svi import SVI


class KernelProgram(Protocol):
    """A Pyro program over kernels, such as `models.kernel_vae.KernelVAE`: two callables of (kernels, total)."""

    model: Callable[[Tensor, int], None]
    guide: Callable[[Tensor, int], None]


class KernelTask:
    """SVI of a kernel program; a `Task` for `fit`.

    The loss is minus the ELBO in nats per kernel, with the exact KL(r(z|w) ‖ p(z)). Validation draws the same latents every
    time, so that the learning rate falls for lack of progress and not by chance.

    Args:
        vae: module with `model(kernels, total)` and `guide(kernels, total)`; trained in place.
        training: kernels to fit, (n, T), in the units of the weights.
        validation: kernels whose loss controls the learning rate, (m, T).
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
        self.size, self.validation_seed, self.batch = len(training), validation_seed, batch
        module = _as_module(vae)
        self.modules: dict[str, nn.Module] = {"vae": module}
        adam = JointAdam({"vae": [module]}, rates={"vae": learning_rate})
        self.optimiser: torch.optim.Optimizer = adam.optimiser
        self.svi = SVI(vae.model, vae.guide, adam, loss=TraceMeanField_ELBO())

    def step(self, indices: Tensor) -> dict[str, float]:
        """Take one step on the kernels of these indices."""
        kernels = self.training[indices]
        step, evaluate = (partial(call, kernels, self.size) for call in (self.svi.step, self.svi.evaluate_loss))
        return {"loss": loss_or_nan(step, evaluate) / self.size}

    def validate(self) -> dict[str, float]:
        """Return minus the ELBO over the validation kernels, in nats per kernel."""
        with torch.random.fork_rng(devices=[self.validation.device] if self.validation.is_cuda else []):
            torch.manual_seed(self.validation_seed)
            losses = (partial(self.svi.evaluate_loss, part, len(part)) for part in self.validation.split(self.batch))
            parts = [loss_or_nan(loss, loss) for loss in losses]
        return {"loss": sum(parts) / len(self.validation)}


def _as_module(vae: KernelProgram) -> nn.Module:
    if not isinstance(vae, nn.Module):
        raise TypeError(
            f"A kernel program must be a torch module that holds its parameters, but is a {type(vae).__name__}."
        )
    return vae
