"""Whether a prediction knows where, and by how much, it may be wrong.

Axis letters: C classes, D H W voxels.
"""

import torch
from torch import Tensor

SMALLEST = 0.5  # voxels; a structure that is expected to have fewer is not there


def entropy(probability: Tensor) -> Tensor:
    """Return H = -Σ_c p_c log p_c in nats, with 0 · log 0 = 0: (C, D, H, W) → (D, H, W); class by class, to save memory.

    Example:
        >>> entropy(torch.tensor([[0.5, 1.0], [0.5, 0.0]])).tolist()
        [0.6931471824645996, 0.0]
    """
    total = torch.zeros_like(probability[0])
    for p in probability:
        total += torch.special.entr(p)
    return total.clamp_min_(0)


def uncertainty_error_correlation(uncertainty: Tensor, wrong: Tensor) -> float | None:
    """Return Pearson's correlation, over voxels, of an uncertainty and the indicator of an error (point-biserial correlation).

    It is near 1 if the uncertainty has one value where the prediction is wrong and a smaller one elsewhere, and near 0 if it does
    not tell errors apart. It takes all voxels of a volume, most of which are background that every model is sure about:
    compare it between methods on the same scans.

    Args:
        uncertainty: such as the predictive entropy, (D, H, W).
        wrong: boolean, whether the predicted label is wrong, same shape.

    Returns:
        A value in [-1, 1]; None if no voxel is wrong, or all are, or the uncertainty is the same everywhere.

    Example:
        >>> uncertainty_error_correlation(torch.tensor([0.1, 0.1, 0.6]), torch.tensor([False, False, True]))
        1.0
    """
    errors, voxels = int(wrong.sum()), wrong.numel()
    spread = float(uncertainty.var(correction=0)) if uncertainty.min() < uncertainty.max() else 0.0
    if errors in (0, voxels) or spread == 0:
        return None
    gap = float(uncertainty[wrong].mean()) - float(uncertainty[~wrong].mean())
    share = errors / voxels
    return max(-1.0, min(1.0, gap * (share * (1 - share) / spread) ** 0.5))


def predicted_dice(inside: float, expected: float, mask: float) -> float:
    """Return the Dice that probabilities lead one to expect of a mask, without a truth.

        2 Σ_{v in mask} p(v) / (|mask| + Σ_v p(v)) = 2 E|mask ∩ Y| / (|mask| + E|Y|)

    where the truth Y holds voxel v with probability p(v). It is the ratio of two expectations, which are exact however the voxels
    depend on each other. It equals E[Dice], the expectation of the ratio, if |Y| is certain, and is close to it if |Y| varies
    little beside |mask| + E|Y|.

    Warning:
        It is as good as the probabilities. A network that is sure where it is wrong predicts a high Dice.

    Args:
        inside: Σ p over the voxels of the mask.
        expected: Σ p over all voxels.
        mask: voxels of the mask.

    Returns:
        0 to 1; 1 if the mask is empty and less than half a voxel is expected, 0 if it is empty and more is.

    Example:
        >>> predicted_dice(inside=3.0, expected=4.0, mask=4), predicted_dice(0.0, 0.2, 0), predicted_dice(0.0, 9.0, 0)
        (0.75, 1.0, 0.0)
    """
    return 1.0 if mask == 0 and expected < SMALLEST else 2 * inside / (mask + expected)
