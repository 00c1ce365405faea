"""Whether a prediction knows where, and by how much, it may be wrong.

Axis letters: C classes, D H W voxels, S posterior samples.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

COVERAGE = 0.9


def entropy(probability: Tensor) -> Tensor:
    """Return H = -Σ_c p_c log p_c in nats, with 0 · log 0 = 0: (C, D, H, W) → (D, H, W).

    Example:
        >>> entropy(torch.tensor([[0.5, 1.0], [0.5, 0.0]])).tolist()
        [0.6931471824645996, 0.0]
    """
    return torch.special.entr(probability).sum(dim=0).clamp_min(0)


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


def interval(samples: Sequence[float] | Tensor, coverage: float = COVERAGE) -> tuple[float, float] | None:
    """Return the central interval of a posterior's samples that a further draw falls into with probability `coverage`.

    The ends are the sample quantiles at rank p (S + 1) of the S sorted samples, p = (1 ∓ coverage) / 2, interpolated between
    ranks and kept within the samples (Hyndman and Fan's type 6). A value exchangeable with the samples lies between the
    samples of rank r and S + 1 - r with probability (S + 1 - 2 r) / (S + 1), so at 90 % the interval has its nominal coverage
    from S = 19 on.

    Warning:
        With fewer samples it is their range, and a perfect posterior covers only (S - 1) / (S + 1) of the truths: 82 % with ten.

    Args:
        samples: S values.
        coverage: nominal, between 0 and 1.

    Returns:
        Lower and upper end; None for a single sample, which says nothing about a spread.

    References:
        Hyndman, Fan 1996, Sample Quantiles in Statistical Packages.

    Example:
        >>> interval(range(1, 20)), interval([3.0, 1.0, 2.0]), interval([1.0])
        ((1.0, 19.0), (1.0, 3.0), None)
    """
    values = np.asarray(samples, dtype=np.float64)
    if len(values) < 2:
        return None
    low, high = np.quantile(values, [(1 - coverage) / 2, (1 + coverage) / 2], method="weibull")
    return float(low), float(high)


def volume_scores(volumes: Tensor, truth: Tensor, voxel: float) -> dict[str, float | None]:
    """Return a lesion's true and predicted volume, and whether the posterior's 90 % interval covers the truth.

    Args:
        volumes: expected number of foreground voxels under each of S sampled networks, (S,).
        truth: true classes, (D, H, W); the lesion is all foreground.
        voxel: volume of a voxel, in mm³.

    Returns:
        `volume_ml`; `predicted_volume_ml`, the mean over samples; `volume_covered`, 1 or 0, None for a single sample.

    Example:
        >>> volume_scores(torch.tensor([500.0, 700.0]), torch.ones(8, 8, 10), voxel=1.0)
        {'volume_ml': 0.64, 'predicted_volume_ml': 0.6, 'volume_covered': 1.0}
    """
    true = int((truth > 0).sum())
    ends = interval(volumes.cpu())
    return {
        "volume_ml": true * voxel / 1000,
        "predicted_volume_ml": float(volumes.double().mean()) * voxel / 1000,
        "volume_covered": None if ends is None else float(ends[0] <= true <= ends[1]),
    }
