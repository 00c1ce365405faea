"""Maximum likelihood of a density of kernels, such as a flow: the step that fits it to one group of kernels."""

import copy
import math

import torch
from torch import Tensor, nn

from pyro_dwp.priors.density import GroupDensity
from pyro_dwp.train.nonfinite import loss_or_nan

CLIP_NORM = 10.0


class Best(nn.Module):
    """The state of a module at its best validation so far; itself a module, so that checkpoints include it.

    Args:
        module: copied.
    """

    loss: Tensor

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.kept = copy.deepcopy(module)
        self.register_buffer("loss", torch.tensor(math.inf, dtype=torch.float64))

    def offer(self, module: nn.Module, loss: float) -> None:
        """Keep the module's current state if its loss is the lowest so far.

        Args:
            module: of the same kind.
            loss: on the validation kernels.
        """
        if loss < self.loss:
            self.kept.load_state_dict(module.state_dict())
            self.loss.fill_(loss)


class DensityTask:
    """Maximum likelihood of a density by Adam; a `Task` for `fit`.

    The loss is minus the mean log density, in nats per kernel, exact. The state with the lowest validation loss is kept, and
    `finish` puts it into the density.

    Args:
        density: with parameters; trained in place.
        training: kernels to fit, (n, K, ...), in the units of the weights.
        validation: kernels whose loss controls the learning rate and chooses the best state, (m, K, ...).
        learning_rate: Adam's, per step; dimensionless.
        batch: kernels evaluated at once in validation.
    """

    def __init__(
        self, density: GroupDensity, training: Tensor, validation: Tensor, learning_rate: float, batch: int = 4096
    ) -> None:
        kind = next(density.parameters())
        self.density, self.batch, self.size = density, batch, len(training)
        self.training, self.validation = (part.to(kind.device, kind.dtype) for part in (training, validation))
        self.best = Best(density)
        self.best.offer(density, self.validate_loss())
        self.modules: dict[str, nn.Module] = {"density": density, "best": self.best}
        self.optimiser: torch.optim.Optimizer = torch.optim.Adam(
            [{"params": list(density.parameters()), "lr": learning_rate, "name": "density"}]
        )

    def step(self, indices: Tensor) -> dict[str, float]:
        """Take one step on the kernels of these indices."""
        kernels = self.training[indices]
        return {"loss": loss_or_nan(lambda: self._step(kernels), lambda: float(self._loss(kernels).detach()))}

    def validate(self) -> dict[str, float]:
        """Return minus the mean log density of the validation kernels, in nats per kernel, and remember the best state."""
        loss = self.validate_loss()
        self.best.offer(self.density, loss)
        return {"loss": loss}

    @torch.no_grad()
    def validate_loss(self) -> float:
        """Return minus the mean log density of the validation kernels, in nats per kernel."""

        def loss() -> float:
            parts = [len(part) * float(self._loss(part)) for part in self.validation.split(self.batch)]
            return sum(parts) / len(self.validation)

        return loss_or_nan(loss, loss)

    def finish(self) -> None:
        """Put the state that was best on the validation kernels into the density."""
        self.density.load_state_dict(self.best.kept.state_dict())

    def _loss(self, kernels: Tensor) -> Tensor:
        return -self.density.distribution().log_prob(kernels).mean()

    def _step(self, kernels: Tensor) -> float:
        self.optimiser.zero_grad(set_to_none=True)
        loss = self._loss(kernels)
        loss.backward()
        nn.utils.clip_grad_norm_(self.density.parameters(), CLIP_NORM)
        self.optimiser.step()
        return float(loss.detach())
