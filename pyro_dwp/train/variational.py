"""Stochastic variational inference of a segmentation network's weights, as a `Task` for `fit`."""

from collections.abc import Callable, Mapping, Sequence

import torch
from pyro import poutine
from pyro.infer import SVI
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyro_dwp.data import Prepared, stack
from pyro_dwp.errors import ConfigError
from pyro_dwp.infer import AuxiliaryELBO, Estimator, SharedSample
from pyro_dwp.sites import LiftedNetwork
from pyro_dwp.train.optim import JointAdam
from pyro_dwp.train.point import validate_network


def draw_network(network: LiftedNetwork, guide: Callable[[], Mapping[str, Tensor]]) -> Callable[[Tensor], Tensor]:
    """Return the network with one sample of its weights from the guide: images (B, C, ...) → logits (B, classes, ...)."""
    with torch.no_grad(), poutine.block():
        weights = guide()
    return lambda image: network(weights, image)


class StepCounter(nn.Module):
    """Counts optimisation steps in a buffer, so that warm-up survives a resumption."""

    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))


class VariationalTask:
    """Minimise −ELBO over guide (θ), point parameters of the model (θ) and auxiliary encoders (ψ) with `pyro.infer.SVI`.

    The history's "train/data", "train/kl" and so on are the ELBO's parts in nats for the whole training set (see
    `AuxiliaryELBO`), and "train/loss" is −ELBO with the KL weight of the step.

    Args:
        model: a Pyro program of image and label with a `network` (`LiftedNetwork`) whose other parameters are points, and a
            `prior` (`PriorFamily`), whose parameters, if it has any to train, belong to θ.
        guide: samples every weight site.
        elbo: its `data_scale` and `kl_weight` are set before each step.
        training: the N labelled cases.
        validation: cases that the learning rate is steered by; at least one.
        rates: learning rate of θ ("theta") and of ψ ("psi"), per step; dimensionless.
        warm_up: steps over which the KL weight rises linearly from 0 to the ELBO's.
        validation_samples: networks drawn from the guide to validate with; their probabilities are averaged.
        clip_norm: largest L2 norm of the gradient of each of θ and ψ; None clips nothing.
        estimator: of the data term's gradient; None shares one draw of the weights in a minibatch.
        device: where the steps run.

    Raises:
        ConfigError: if warm_up is negative or validation_samples below 1.
    """

    def __init__(
        self,
        model: PyroModule,
        guide: PyroModule,
        elbo: AuxiliaryELBO,
        training: Sequence[Prepared],
        validation: Sequence[Prepared],
        rates: Mapping[str, float],
        warm_up: int = 0,
        validation_samples: int = 2,
        clip_norm: float | None = None,
        estimator: Estimator | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if warm_up < 0 or validation_samples < 1:
            raise ConfigError(
                f"Inference needs warm_up ≥ 0 and validation_samples ≥ 1, but received {warm_up=}, {validation_samples=}."
            )
        self.model, self.guide, self.elbo, self.device = model.to(device), guide.to(device), elbo, device
        elbo.encoders.to(device)
        self.training, self.validation, self.validation_samples = training, validation, validation_samples
        self.warm_up, self.kl_weight, self.counter = warm_up, elbo.kl_weight, StepCounter()
        groups = {"theta": [self.guide, self.model], "psi": [elbo.encoders]}
        adam = JointAdam(groups, rates, clip_norm)
        program = (estimator or SharedSample())(self.model, self.guide)
        self.svi = SVI(program, self.guide, adam, elbo)
        self.optimiser = adam.optimiser
        self.size = len(training)
        self.modules = {
            "network": self.model.network,
            "guide": self.guide,
            "encoders": elbo.encoders,
            "counter": self.counter,
        }
        if any(parameter.requires_grad for parameter in self.model.prior.parameters()):
            self.modules["prior"] = self.model.prior

    def step(self, indices: Tensor) -> dict[str, float]:
        """Take one SVI step on these cases; return the loss and the ELBO's parts, in nats."""
        batch = stack([self.training[i] for i in indices.tolist()])
        taken = int(self.counter.steps)
        self.elbo.data_scale = self.size / len(indices)
        self.elbo.kl_weight = self.kl_weight * (min(1.0, (taken + 1) / self.warm_up) if self.warm_up else 1.0)
        loss = self.svi.step(batch.image.to(self.device), batch.label.to(self.device))
        self.counter.steps += 1
        return {"loss": loss, **self.elbo.parts, "kl_weight": self.elbo.kl_weight}

    def validate(self) -> dict[str, float]:
        """Return mean loss and Dice of the averaged prediction over the validation cases, on the network's grid."""
        networks = [draw_network(self.model.network, self.guide) for _ in range(self.validation_samples)]

        def averaged(image: Tensor) -> Tensor:
            """Return the logarithm of the mean probabilities, which acts as logits."""
            return torch.stack([network(image).softmax(1) for network in networks]).mean(0).clamp_min(1e-12).log()

        return validate_network(averaged, self.validation, self.device)
