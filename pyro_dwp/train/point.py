"""Point training of a network on labelled cases: the source networks, and the baseline from a random start."""

from collections.abc import Callable, Sequence

import torch
from pydantic import NonNegativeFloat
from torch import Tensor, nn

from pyro_dwp.checks import checked
from pyro_dwp.data import Prepared, stack
from pyro_dwp.likelihoods import dice_cross_entropy
from pyro_dwp.metrics import dice, mean_score


class PointTask:
    """Adam on the paper's loss; a `Task` for `fit`.

    Args:
        network: from images (B, C, ...) to logits (B, classes, ...); trained in place.
        training: cases to learn from; may hold a case more than once (bootstrap).
        validation: cases whose loss controls the learning rate; at least one.
        learning_rate: Adam's, per step; dimensionless.
        weight_decay: decoupled weight decay (AdamW), a fraction of the weight times the learning rate per step.
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
        device: torch.device | str = "cpu",
    ) -> None:
        self.network = network.to(device)
        self.training, self.validation, self.device = training, validation, device
        self.size = len(training)
        self.modules = {"network": self.network}
        self.optimiser = torch.optim.AdamW(self.network.parameters(), lr=learning_rate, weight_decay=weight_decay)

    def step(self, indices: Tensor) -> dict[str, float]:
        """Take one step on these cases and return the loss, the mean over the scans."""
        batch = stack([self.training[i] for i in indices.tolist()])
        self.optimiser.zero_grad()
        loss = dice_cross_entropy(self.network(batch.image.to(self.device)), batch.label.to(self.device)).mean()
        loss.backward()
        self.optimiser.step()
        return {"loss": loss.item()}

    def validate(self) -> dict[str, float]:
        """Return the mean loss and Dice over the validation cases, on the network's grid."""
        return validate_network(self.network, self.validation, self.device)


@torch.no_grad()
def validate_network(
    network: Callable[[Tensor], Tensor], cases: Sequence[Prepared], device: torch.device | str = "cpu"
) -> dict[str, float]:
    """Return the mean loss and foreground Dice of a network over cases, one at a time, on the network's grid.

    Args:
        network: from an image (1, C, ...) to logits (1, classes, ...).
        cases: with labels.
        device: where the network is.
    """
    losses, scores = [], []
    for case in cases:
        batch = stack([case])
        logits = network(batch.image.to(device)).cpu()
        losses.append(dice_cross_entropy(logits, batch.label).item())
        scores.append(mean_score(dice(logits.argmax(1)[0], batch.label[0])))
    return {"loss": sum(losses) / len(losses), "dice": sum(scores) / len(scores)}
