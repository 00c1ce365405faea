"""How labels are scored given logits.

A likelihood is called inside a Pyro model's plate over scans, with the logits and, in training, the label. It contributes one
number for each scan of the batch, which the plate scales to the data set (N/b).

Where a case is a patch of a larger one, each voxel has a weight: the voxels that it stands for, see `data/patches.py`.

Axis letters: B batch, C classes, D H W voxels (H W alone in two dimensions), V voxels of a scan.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any

import pyro
import torch
from annotated_types import Ge, Le
from pydantic import PositiveFloat
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints
from torch.nn import functional as F

from pyro_dwp.checks import checked

__all__ = ["Categorical", "DiceCrossEntropy", "Likelihood", "VoxelCategorical", "dice_cross_entropy"]


def dice_cross_entropy(
    logits: Tensor,
    label: Tensor,
    dice_weight: float = 0.99,
    weight: Tensor | None = None,
    voxels: Tensor | None = None,
) -> Tensor:
    """Return the paper's training loss per scan: dice_weight · (1 − soft Dice) + (1 − dice_weight) · cross-entropy.

    The soft Dice is averaged over the foreground classes, with one voxel added to numerator and denominator so that a
    scan without foreground has a defined loss; the cross-entropy is the mean over voxels, in nats.

    Args:
        logits: (B, C, D, H, W) or (B, C, H, W).
        label: classes as integers, (B, D, H, W) or (B, H, W).
        dice_weight: between 0 and 1.
        weight: voxels that each voxel stands for in the sums and means, (B, D, H, W) or (B, H, W); None counts each once.
        voxels: that the sum of cross-entropies is divided by, (B,); None takes the sum of the weights. Of a patch, the voxels of
            the whole scan: the sum of its weights is random.

    Returns:
        Loss per scan, (B,).

    References:
        Milletari, Navab, Ahmadi 2016, V-Net. Kuzina, Egorov, Burnaev 2019, table 1.

    Example:
        >>> label = torch.tensor([[[0, 1], [1, 0]]])
        >>> sure = 50.0 * F.one_hot(label, 2).movedim(-1, 1).float()
        >>> round(dice_cross_entropy(sure, label).item(), 3)
        0.0
    """
    sums = loss_sums(logits, label, weight)
    return loss_of_sums(*sums, count_voxels(label, weight) if voxels is None else voxels, dice_weight)


def count_voxels(label: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the voxels of each scan, or the sum of their weights: (B, ...) → (B,)."""
    return _sum(torch.ones_like(label[:, None]), weight)[:, 0]


def loss_sums(logits: Tensor, label: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Return the sums over voxels that the paper's loss is made of, so that a volume can be scored in parts.

    Args:
        logits: (B, C, ...).
        label: (B, ...).
        weight: (B, ...); None counts each voxel once.

    Returns:
        Overlap Σ p t and size Σ (p + t) of each foreground class, (B, C − 1), and Σ cross-entropy in nats, (B,).
    """
    probability = logits.softmax(1)[:, 1:]
    truth = torch.stack([label == value for value in range(1, logits.shape[1])], 1)
    overlap, size = (_sum(values, weight) for values in (probability * truth, probability + truth))
    return overlap, size, _sum(F.cross_entropy(logits, label, reduction="none")[:, None], weight)[:, 0]


def loss_of_sums(
    overlap: Tensor, size: Tensor, cross_entropy: Tensor, voxels: Tensor | float, dice_weight: float = 0.99
) -> Tensor:
    """Return the paper's loss per scan, (B,), from `loss_sums`; `voxels` is what the sum of cross-entropies is divided by."""
    soft_dice = ((2 * overlap + 1) / (size + 1)).mean(1)
    return dice_weight * (1 - soft_dice) + (1 - dice_weight) * cross_entropy / voxels


def _sum(values: Tensor, weight: Tensor | None) -> Tensor:
    """Return the sum over voxels: (B, C, ...) with weights (B, ...) → (B, C)."""
    return (values if weight is None else values * weight.unsqueeze(1)).flatten(2).sum(2)


class VoxelCategorical(TorchDistribution):
    """Independent categorical labels of all voxels of a scan: batch (B,), event (D, H, W).

    Equal to `Categorical(logits).to_event(3)`, but scored by `F.cross_entropy`, three times as fast.

    Args:
        logits: (B, C, D, H, W) or (B, C, H, W).
        weight: power of each voxel's probability, (B, D, H, W) or (B, H, W), with which the labels are scored, not sampled; None
            takes 1.
    """

    arg_constraints: Mapping[str, Any] = {}

    def __init__(self, logits: Tensor, weight: Tensor | None = None, validate_args: bool | None = None) -> None:
        self.logits, self.weight = logits, weight
        super().__init__(logits.shape[:1], logits.shape[2:], validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True)
    def support(self) -> constraints.Constraint:
        """Class numbers from 0 to C − 1."""
        return constraints.independent(constraints.integer_interval(0, self.logits.shape[1] - 1), len(self.event_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """Return Σ_voxels weight · log p(label), (B,)."""
        if self._validate_args:
            self._validate_sample(value)
        return -_sum(F.cross_entropy(self.logits.float(), value, reduction="none")[:, None], self.weight)[:, 0]

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008 (immutable)
        """Draw labels, (*sample_shape, B, D, H, W)."""
        return torch.distributions.Categorical(logits=self.logits.movedim(1, -1)).sample(sample_shape)


class Likelihood(ABC):
    """Scores labels inside a Pyro model."""

    @abstractmethod
    def __call__(
        self, logits: Tensor, label: Tensor | None, weight: Tensor | None = None, voxels: Tensor | None = None
    ) -> None:
        """Add log p(label | logits) of each scan to the model, as one site `label` of batch shape (B,).

        Args:
            logits: (B, C, D, H, W) or (B, C, H, W).
            label: (B, D, H, W) or (B, H, W); None in prediction.
            weight: voxels that each voxel of a patch stands for, shaped as the label; None counts each once.
            voxels: of the whole scan that each patch belongs to, (B,); None takes the sum of the weights.
        """


class Categorical(Likelihood):
    """Independent categorical voxels: log p = Σ_voxels log softmax(logits)[label].

    Args:
        strength: power of the likelihood. Neighbouring voxels are far from independent; a strength below 1 counts a scan
            as fewer voxels than it has.
    """

    @checked
    def __init__(self, strength: PositiveFloat = 1.0) -> None:
        self.strength = strength

    def __call__(
        self, logits: Tensor, label: Tensor | None, weight: Tensor | None = None, voxels: Tensor | None = None
    ) -> None:
        """Sample or score the site `label`."""
        with pyro.poutine.scale(scale=self.strength):
            pyro.sample("label", VoxelCategorical(logits, weight), obs=label)


class DiceCrossEntropy(Likelihood):
    """The paper's loss as a factor: log f = −strength · V · [0.99 (1 − Dice) + 0.01 cross-entropy] per scan.

    Of a patch, V is the voxels of the whole scan, and the cross-entropy the weighted sum over V: its expectation is that of the
    whole scan, and V adds no noise to the Dice.

    Not a normalised likelihood. The loss has no natural unit, so `strength` says how many nats a loss of 1 is worth.

    Args:
        strength: nats per voxel at a loss of 1.
        dice_weight: weight of the soft Dice loss, between 0 and 1; the cross-entropy has the rest.
    """

    @checked
    def __init__(self, strength: PositiveFloat = 0.1, dice_weight: Annotated[float, Ge(0), Le(1)] = 0.99) -> None:
        self.strength, self.dice_weight = strength, dice_weight

    def __call__(
        self, logits: Tensor, label: Tensor | None, weight: Tensor | None = None, voxels: Tensor | None = None
    ) -> None:
        """Add the factor `label`; nothing without a label."""
        if label is not None:
            voxels = count_voxels(label, weight) if voxels is None else voxels
            loss = dice_cross_entropy(logits.float(), label, self.dice_weight, weight, voxels)
            pyro.factor("label", -self.strength * voxels * loss)
