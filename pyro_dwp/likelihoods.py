"""How labels are scored given logits.

A likelihood is called inside a Pyro model, with the logits and, in training, the label. Its contribution is a sum over
the scans of the batch; `AuxiliaryELBO(data_scale=N/b)` scales it to the data set's size.

Axis letters: B batch, C classes, D H W voxels (H W alone in two dimensions), V voxels of a scan.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import pyro
import torch
from monai.losses import DiceLoss
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints
from torch.nn import functional as F

from pyro_dwp.errors import ConfigError


def dice_cross_entropy(logits: Tensor, label: Tensor, dice_weight: float = 0.99) -> Tensor:
    """Return the paper's training loss per scan: dice_weight · (1 − soft Dice) + (1 − dice_weight) · cross-entropy.

    The soft Dice is averaged over the foreground classes, with one voxel added to numerator and denominator so that a
    scan without foreground has a defined loss; the cross-entropy is the mean over voxels, in nats.

    Args:
        logits: (B, C, D, H, W) or (B, C, H, W).
        label: classes as integers, (B, D, H, W) or (B, H, W).
        dice_weight: between 0 and 1.

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
    score = DiceLoss(
        include_background=False, to_onehot_y=True, softmax=True, reduction="none", smooth_nr=1.0, smooth_dr=1.0
    )(logits, label.unsqueeze(1))
    cross_entropy = F.cross_entropy(logits, label, reduction="none").flatten(1).mean(1)
    return dice_weight * score.flatten(1).mean(1) + (1 - dice_weight) * cross_entropy


class VoxelCategorical(TorchDistribution):
    """Independent categorical labels of all voxels of a scan: batch (B,), event (D, H, W).

    Equal to `Categorical(logits).to_event(3)`, but scored by `F.cross_entropy`, three times as fast.

    Args:
        logits: (B, C, D, H, W) or (B, C, H, W).
    """

    arg_constraints: Mapping[str, Any] = {}

    def __init__(self, logits: Tensor, validate_args: bool | None = None) -> None:
        self.logits = logits
        super().__init__(logits.shape[:1], logits.shape[2:], validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True)
    def support(self) -> constraints.Constraint:
        """Class numbers from 0 to C − 1."""
        return constraints.independent(constraints.integer_interval(0, self.logits.shape[1] - 1), len(self.event_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """Return Σ_voxels log p(label), (B,)."""
        if self._validate_args:
            self._validate_sample(value)
        return -F.cross_entropy(self.logits.float(), value, reduction="none").flatten(1).sum(1)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008 (immutable)
        """Draw labels, (*sample_shape, B, D, H, W)."""
        return torch.distributions.Categorical(logits=self.logits.movedim(1, -1)).sample(sample_shape)


class Likelihood(ABC):
    """Scores labels inside a Pyro model."""

    @abstractmethod
    def __call__(self, logits: Tensor, label: Tensor | None) -> None:
        """Add log p(label | logits), summed over the scans of the batch, to the model.

        Args:
            logits: (B, C, D, H, W) or (B, C, H, W).
            label: (B, D, H, W) or (B, H, W); None in prediction.
        """


class Categorical(Likelihood):
    """Independent categorical voxels: log p = Σ_voxels log softmax(logits)[label].

    Args:
        strength: power of the likelihood. Neighbouring voxels are far from independent; a strength below 1 counts a scan
            as fewer voxels than it has.

    Raises:
        ConfigError: if strength is not positive.
    """

    def __init__(self, strength: float = 1.0) -> None:
        if strength <= 0:
            raise ConfigError(f"A likelihood's strength must be positive, but received {strength}.")
        self.strength = strength

    def __call__(self, logits: Tensor, label: Tensor | None) -> None:
        """Sample or score the site `label`."""
        with pyro.plate("scans", logits.shape[0], dim=-1), pyro.poutine.scale(scale=self.strength):
            pyro.sample("label", VoxelCategorical(logits), obs=label)


class DiceCrossEntropy(Likelihood):
    """The paper's loss as a factor: log f = −strength · V · [0.99 (1 − Dice) + 0.01 cross-entropy] per scan.

    Not a normalised likelihood: the loss has no natural unit, so `strength` fixes how many nats a loss of 1 is worth.

    Args:
        strength: nats per voxel at a loss of 1.
        dice_weight: weight of the soft Dice loss, between 0 and 1; the cross-entropy has the rest.

    Raises:
        ConfigError: if strength is not positive or dice_weight is outside [0, 1].
    """

    def __init__(self, strength: float = 0.1, dice_weight: float = 0.99) -> None:
        if strength <= 0 or not 0 <= dice_weight <= 1:
            raise ConfigError(
                "DiceCrossEntropy needs a positive strength and a dice_weight in [0, 1], but received "
                f"{strength=}, {dice_weight=}."
            )
        self.strength, self.dice_weight = strength, dice_weight

    def __call__(self, logits: Tensor, label: Tensor | None) -> None:
        """Add the factor `label`; nothing without a label."""
        if label is not None:
            voxels = label[0].numel()
            loss = dice_cross_entropy(logits.float(), label, self.dice_weight)
            pyro.factor("label", -self.strength * voxels * loss.sum())
