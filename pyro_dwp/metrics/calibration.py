"""Scores of predicted probabilities, for one case; computed without a one-hot copy of the truth.

The first two are proper: their expectation is smallest for the true probabilities, so they reward honest uncertainty, which
overlap cannot. The calibration error only tells whether probabilities agree with frequencies; it is not a proper score.
Axis letters: C classes, D H W voxels.
"""

from collections.abc import Sequence
from statistics import fmean
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor

from pyro_dwp.checks import checked
from pyro_dwp.errors import DataError
from pyro_dwp.metrics.surface import boundary_band

FLOOR = torch.finfo(torch.float32).eps
CHUNK = 2**22  # voxels that are held in float64 at a time
BAND = 5.0  # mm on either side of a boundary

Bins = Annotated[int, Ge(1), Le(10_000)]


def probability_of_truth(probability: Tensor, truth: Tensor) -> Tensor:
    """Return the probability given to each voxel's true class.

    Args:
        probability: (C, D, H, W).
        truth: true class of each voxel, integers, (D, H, W).

    Returns:
        (D, H, W).

    Raises:
        DataError: if the grids differ, or the truth holds a label that has no probability.
    """
    classes = probability.shape[0]
    if probability.shape[1:] != truth.shape:
        raise DataError(
            "Probabilities (C, D, H, W) and truth (D, H, W) lie on the same grid, but they have shapes "
            f"{tuple(probability.shape)} and {tuple(truth.shape)}. Resample one to the other's grid."
        )
    if not (int(truth.min()) >= 0 and int(truth.max()) < classes):
        raise DataError(
            f"{classes} probabilities per voxel need labels 0 to {classes - 1}, but the truth holds labels from "
            f"{int(truth.min())} to {int(truth.max())}. Map its labels to the network's classes."
        )
    return probability.gather(0, truth.long()[None])[0]


def negative_log_likelihood(probability: Tensor, truth: Tensor, floor: float = FLOOR) -> float:
    """Return the mean over voxels of -log p(true class), in nats per voxel; 0 is perfect, log C is a uniform guess.

    Probabilities below `floor` count as `floor`, so that one voxel of probability 0 costs 15.9 nats and not infinity.
    The default is the resolution of float32 at 1: 1 - p is not known better if p of the foreground is stored in float32.

    Args:
        probability: p, summing to 1 over classes, (C, D, H, W).
        truth: true class of each voxel, integers, (D, H, W).
        floor: smallest probability that is distinguished from 0.

    Raises:
        DataError: if the grids differ, or the truth holds a label that has no probability.

    Example:
        >>> negative_log_likelihood(torch.full((2, 4, 4, 4), 0.5), torch.zeros(4, 4, 4, dtype=torch.int64))
        0.6931471805599453
    """
    return float(-probability_of_truth(probability, truth).double().clamp_min(floor).log().mean())


def brier_score(probability: Tensor, truth: Tensor) -> float:
    """Return Brier's score, the mean over voxels of Σ_c (p_c - [c is true])²: 0 is perfect, 2 is certain and wrong.

    Args:
        probability: p, summing to 1 over classes, (C, D, H, W).
        truth: true class of each voxel, integers, (D, H, W).

    Raises:
        DataError: if the grids differ, or the truth holds a label that has no probability.

    References:
        Brier 1950, Mon. Weather Rev. 78:1 (the original, summed over classes).

    Example:
        >>> brier_score(torch.full((2, 4, 4, 4), 0.5), torch.zeros(4, 4, 4, dtype=torch.int64))
        0.5
    """
    right = probability_of_truth(probability, truth).double()
    squares = sum(p.double().square() for p in probability)
    return float((squares - 2 * right + 1).mean())


@checked
def calibration_error(probability: Tensor, truth: Tensor, bins: Bins = 20) -> float:
    """Return the expected calibration error: 0 if probabilities agree with frequencies, at most 1.

        Σ_bins (voxels in the bin / all voxels) · | mean probability − share of voxels of the class |
            = Σ_bins | Σ_voxels (p − [voxel is of the class]) | / all voxels

    Each foreground class is taken against the rest, and the result is the mean over these classes. Bins have equal width and
    include their lower edge, the last one also p = 1. Sums are in float64, a chunk of voxels at a time, because float32 would
    lose small probabilities, of which a volume has millions. Most voxels are background about which every model is certain,
    so the values are small: compare them between methods on the same scans.

    Args:
        probability: p, summing to 1 over classes, (C, D, H, W).
        truth: true class of each voxel, integers, (D, H, W).
        bins: number of bins, at least 1.

    Raises:
        DataError: if the grids differ, or the truth holds a label that has no probability.
        ConfigError: if `bins` is below 1 or above 10,000.

    References:
        Guo, Pleiss, Sun, Weinberger 2017, On Calibration of Modern Neural Networks.

    Example:
        >>> truth = torch.tensor([[0, 0, 0, 1]])
        >>> calibration_error(torch.tensor([0.75, 0.25])[:, None, None].expand(2, 1, 4), truth)
        0.0
    """
    probability_of_truth(probability, truth)
    return fmean(_gap(p, truth == index, bins) for index, p in enumerate(probability) if index)


@checked
def calibration_error_boundary(
    probability: Tensor, truth: Tensor, spacing: Sequence[float], width: float = BAND, bins: Bins = 20
) -> float | None:
    """Return the calibration error over the voxels near the true boundary, where a segmentation is in doubt.

    Each foreground class is taken over the voxels at most `width` mm from its boundary (`boundary_band`), on either side; the
    result is the mean over the classes that have one. Unlike over all voxels, certain background does not dilute it.

    Args:
        probability: p, summing to 1 over classes, (C, D, H, W).
        truth: true class of each voxel, integers, (D, H, W).
        spacing: distance between voxels along D, H, W, in mm.
        width: of the band on either side, in mm.
        bins: number of bins, at least 1.

    Returns:
        The error, in [0, 1]; None if no class of the truth has a boundary.

    Raises:
        DataError: if the grids differ, or the truth holds a label that has no probability.
        ConfigError: if `bins` is below 1 or above 10,000.

    Example:
        >>> truth = torch.tensor([0] * 90 + [1, 1])[None, None]
        >>> probability = torch.stack([1.0 - truth, truth]).clamp(0.25, 0.75)
        >>> calibration_error_boundary(probability, truth, (1.0, 1.0, 1.0), width=2.0)
        0.25
    """
    probability_of_truth(probability, truth)
    bands = {index: boundary_band(truth == index, spacing, width) for index in range(1, len(probability))}
    errors = [_gap(probability[i][band], truth[band] == i, bins) for i, band in bands.items() if band.any()]
    return fmean(errors) if errors else None


def _gap(probability: Tensor, hit: Tensor, bins: int) -> float:
    """Return Σ_bins | Σ_voxels (p − [voxel is of the class]) | / voxels of one class."""
    gaps = torch.zeros(bins, dtype=torch.float64, device=probability.device)
    for p, hits in zip(probability.flatten().split(CHUNK), hit.flatten().split(CHUNK), strict=True):
        p = p.double()
        which = (p * bins).long().clamp_(0, bins - 1)
        gaps += torch.bincount(which, weights=p - hits.double(), minlength=bins)
    return float(gaps.abs().sum()) / hit.numel()
