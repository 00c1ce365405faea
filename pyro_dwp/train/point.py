"""Point training of a network on labelled cases: the source networks, and the baseline from a random start."""

from collections.abc import Sequence
from functools import partial
from statistics import fmean

import torch
from pydantic import NonNegativeFloat
from torch import Tensor, nn

from pyro_dwp.checks import checked
from pyro_dwp.data import Augment, Batch, Patch, Prepared, draw_patch, stack
from pyro_dwp.likelihoods import dice_cross_entropy
from pyro_dwp.metrics import dice, mean_score
from pyro_dwp.nn import Precision, run_in
from pyro_dwp.nn.windows import Network, class_probabilities


def minibatch(cases: Sequence[Prepared], indices: Tensor, augment: Augment | None, patch: Patch | None = None) -> Batch:
    """Return the cases of these indices as a batch, each of them augmented anew and then cut to a random patch.

    Args:
        cases: to learn from.
        indices: (B,), int64.
        augment: varies a case; None takes it as it is.
        patch: edges of the patches; None takes whole cases.
    """
    chosen = [cases[i] for i in indices.tolist()]
    return stack([draw_patch(augment(case) if augment else case, patch) for case in chosen])


class PointTask:
    """Adam on the paper's loss; a `Task` for `fit`.

    Args:
        network: from images (B, C, ...) to logits (B, classes, ...); trained in place.
        training: cases to learn from; may hold a case more than once (bootstrap).
        validation: cases whose loss may control the learning rate; may be empty.
        learning_rate: Adam's, per step; dimensionless.
        weight_decay: decoupled weight decay (AdamW), a fraction of the weight times the learning rate per step.
        augment: varies each training case anew in every step; None takes it as it is.
        precision: that the network computes in.
        patch: edges of the random patch of each training case that a step learns from; validation slides a window of this size.
            None takes whole cases.
        device: where the steps run.

    Raises:
        ConfigError: if a rate is negative or not finite.

    References:
        Kuzina, Egorov, Burnaev 2019, table 1. Loshchilov, Hutter 2019, Decoupled Weight Decay Regularization.
    """

    @checked
    def __init__(
        self,
        network: nn.Module,
        training: Sequence[Prepared],
        validation: Sequence[Prepared],
        learning_rate: NonNegativeFloat,
        weight_decay: NonNegativeFloat = 0.0,
        augment: Augment | None = None,
        precision: Precision = "float32",
        patch: Patch | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.network = network.to(device)
        self.training, self.validation, self.augment, self.device = training, validation, augment, device
        self.size, self.precision, self.patch = len(training), precision, patch
        self.modules = {"network": self.network}
        self.optimiser = torch.optim.AdamW(self.network.parameters(), lr=learning_rate, weight_decay=weight_decay)

    def step(self, indices: Tensor) -> dict[str, float]:
        """Take one step on these cases and return the loss, the mean over the scans."""
        batch = minibatch(self.training, indices, self.augment, self.patch).to(self.device)
        self.optimiser.zero_grad()
        logits = run_in(self.precision, self.network, batch.image)
        loss = dice_cross_entropy(logits, batch.label, weight=batch.weight).mean()
        loss.backward()
        self.optimiser.step()
        return {"loss": loss.item()}

    def validate(self) -> dict[str, float]:
        """Return the mean loss and Dice over the validation cases, on the network's grid."""
        network = partial(run_in, self.precision, self.network)
        return validation_scores([network], self.validation, self.device, self.patch)


@torch.no_grad()
def validation_scores(
    networks: Sequence[Network],
    cases: Sequence[Prepared],
    device: torch.device | str = "cpu",
    window: Sequence[int] | None = None,
) -> dict[str, float]:
    """Return the mean loss and foreground Dice of networks over cases, on their grid; {} without cases.

    Args:
        networks: each from an image (1, C, ...) to logits (1, classes, ...); their probabilities are averaged.
        cases: with labels.
        device: where the networks are.
        window: edges of a sliding window, voxels; None runs the networks on a whole case.
    """
    losses, scores = [], []
    for case in cases:
        batch, image = stack([case]), case.image.to(device)
        probability = torch.stack([class_probabilities(network, image, window) for network in networks]).mean(0)
        logits = probability.clamp_min(1e-12).log()[None].cpu()
        losses.append(dice_cross_entropy(logits, batch.label).item())
        scores.append(mean_score(dice(logits.argmax(1)[0], batch.label[0])))
    return {"loss": fmean(losses), "dice": fmean(scores)} if cases else {}
