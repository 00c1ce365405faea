"""Stochastic variational inference of a segmentation network's weights, as a `Task` for `fit`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Le
from pyro import poutine
from pyro.nn import PyroModule
from torch import Tensor
from torch.optim import Optimizer

from pyro_dwp.checks import checked
from pyro_dwp.data import Augment, Patches, Prepared
from pyro_dwp.infer import AuxiliaryELBO, Estimator, SharedSample
from pyro_dwp.sites import FunctionalNetwork
from pyro_dwp.train.optim import JointAdam
from pyro_dwp.train.point import WHOLE, minibatch, validation_scores
from pyro_dwp.train.ranks import Ranks
from pyro_dwp.train.svi import SVI


def draw_network(network: FunctionalNetwork, guide: Callable[[], Mapping[str, Tensor]]) -> Callable[[Tensor], Tensor]:
    """Return the network with one draw of its weights.

    Args:
        network: takes weights and images.
        guide: draws the weights, site name → weight.

    Returns:
        Images (B, C, ...) → logits (B, classes, ...).
    """
    with torch.no_grad(), poutine.block():
        weights = guide()
    return lambda image: network(weights, image)


class VariationalTask:
    """Minimise −ELBO over guide (θ), point parameters of the model (θ) and auxiliary encoders (ψ) with `SVI`.

    The history's "train/data", "train/kl" and so on are the ELBO's parts in nats for the whole training set (see
    `AuxiliaryELBO`), and "train/loss" is −ELBO with the KL weight of the step.

    Args:
        model: a Pyro program of image, label and the number of scans in the data set. It has a `network` (`FunctionalNetwork`)
            with the point parameters, and a `prior` (`Prior`), whose parameters, if it has any to train, belong to θ.
        guide: samples every weight site.
        elbo: to maximise.
        training: the N labelled cases.
        validation: cases whose loss may control the learning rate; may be empty.
        rates: learning rate of θ ("posterior") and of ψ ("encoders"), per step; dimensionless.
        clip_norm: largest L2 norm of the gradient of each of θ and ψ; None does not clip.
        estimator: how the data term's gradient is estimated; None takes one draw of the weights for a minibatch.
        augment: varies each training case anew in every step; None takes it as it is.
        patches: the random patch of each training case that a step learns from, weighted to stand for the whole case; validation
            slides a window of its size.
        device: where the steps run.
        ranks: processes that share each step.
        validation_samples: networks drawn from the guide to validate with; their probabilities are averaged.

    Raises:
        ConfigError: if a number is outside its range, or the guide does not allow the estimator.
    """

    @checked
    def __init__(
        self,
        model: PyroModule,
        guide: PyroModule,
        elbo: AuxiliaryELBO,
        training: Sequence[Prepared],
        validation: Sequence[Prepared],
        rates: Mapping[str, float],
        clip_norm: float | None = None,
        estimator: Estimator | None = None,
        augment: Augment | None = None,
        patches: Patches = WHOLE,
        device: torch.device | str = "cpu",
        ranks: Ranks | None = None,
        validation_samples: Annotated[int, Ge(1), Le(10_000)] = 2,
    ) -> None:
        self.model, self.guide, self.elbo, self.device = model.to(device), guide.to(device), elbo, device
        elbo.encoders.to(device)
        self.training, self.validation, self.validation_samples = training, validation, validation_samples
        self.augment, self.patches = augment, patches
        groups = {"posterior": [self.guide, self.model], "encoders": [elbo.encoders]}
        adam = JointAdam(groups, dict(rates), clip_norm, ranks=ranks)
        self.optimiser: Optimizer = adam.optimiser
        self.svi = SVI((estimator or SharedSample())(self.model, self.guide), self.guide, adam, elbo)
        self.size = len(training)
        self.modules = {"network": self.model.network, "guide": self.guide, "encoders": elbo.encoders}
        if any(parameter.requires_grad for parameter in self.model.prior.parameters()):
            self.modules["prior"] = self.model.prior

    def step(self, indices: Tensor) -> dict[str, float | Tensor]:
        """Take one SVI step on the cases of these indices; return the loss and the ELBO's terms, in nats."""
        batch = minibatch(self.training, indices, self.augment, self.patches, self.device)
        loss = self.svi.step(batch.image, batch.label, self.size, batch.weight, batch.voxels)
        return {"loss": loss, **self.elbo.terms}

    def draw(self) -> Callable[[Tensor], Tensor]:
        """Return one network from the posterior: images (B, C, ...) → logits (B, classes, ...)."""
        return draw_network(self.model.network, self.guide)

    def validate(self) -> dict[str, float]:
        """Return mean loss and Dice of the averaged prediction over the validation cases, on the network's grid."""
        networks = [self.draw() for _ in range(self.validation_samples)]
        return validation_scores(networks, self.validation, self.device, self.patches.patch)
