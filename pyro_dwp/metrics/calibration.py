"""Scores of predicted probabilities, for one case; computed without a one-hot copy of the truth.

The first two are proper: their expectation is smallest for the true probabilities, so they reward honest uncertainty, which
overlap cannot. The calibration error only tells whether probabilities agree with frequencies; it is not a proper score.
Axis letters: C classes, D H W voxels.
"""

from collections.abc import Callable, Sequence
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
    right = probability_of_truth(probability, truth)
    return -_sum(right, lambda p: p.clamp_min(floor).log()) / right.numel()


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
    right = probability_of_truth(probability, truth)
    squares = sum(_sum(p, torch.square) for p in probability)
    return (squares - 2 * _sum(right) + right.numel()) / right.numel()


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


def tempered(probability: Tensor, temperature: float) -> Tensor:
    """Return probabilities ∝ p^(1/T): flatter for T > 1, sharper for T < 1, p itself for T = 1; the most probable class stays.

    For a single network it is softmax(logits / T). For the mean over networks it calibrates what was pooled.

    Args:
        probability: p, summing to 1 over classes, (C, ...).
        temperature: T, positive.

    References:
        Guo, Pleiss, Sun, Weinberger 2017, On Calibration of Modern Neural Networks.
        Rahaman, Thiery 2021, Uncertainty Quantification and Deep Ensembles.

    Example:
        >>> tempered(torch.tensor([0.8, 0.2]), 0.5), tempered(torch.tensor([0.8, 0.2]), 2.0)
        (tensor([0.9412, 0.0588]), tensor([0.6667, 0.3333]))
    """
    if temperature == 1:
        return probability
    scaled = (probability / probability.amax(0, keepdim=True)).pow_(1 / temperature)
    return scaled.div_(scaled.sum(0, keepdim=True))


class Reliability:
    """How often what is predicted with a probability is true, added up over cases.

    Memory does not depend on the number of voxels: a case adds to three sums for each of `bins` bins of equal width.

    Args:
        bins: number of bins.

    Example:
        >>> reliability = Reliability(bins=2)
        >>> reliability.add(torch.tensor([0.25, 0.25, 0.25, 0.25, 0.75]), torch.tensor([1, 0, 0, 0, 1]).bool())
        >>> reliability.to_dict()
        {'probability': [0.25, 0.75], 'frequency': [0.25, 1.0], 'voxels': [4, 1]}
        >>> reliability.error()
        0.05
    """

    def __init__(self, bins: int = 20) -> None:
        self.sums = torch.zeros(3, bins, dtype=torch.float64)

    def add(self, probability: Tensor, hit: Tensor) -> None:
        """Add the voxels of a case.

        Args:
            probability: of a structure, any shape.
            hit: whether the voxel is of the structure, same shape.
        """
        self.sums += _bin_sums(probability, hit, self.sums.shape[1]).cpu()

    def error(self) -> float:
        """Return the expected calibration error of all voxels, as `calibration_error` defines it for one class of one case."""
        expected, found, voxels = self.sums
        return float((expected - found).abs().sum() / voxels.sum())

    def to_dict(self) -> dict[str, list[float] | list[int]]:
        """Return mean probability, share of hits and number of voxels of each bin that has any."""
        expected, found, voxels = self.sums[:, self.sums[2] > 0]
        return {
            "probability": (expected / voxels).tolist(),
            "frequency": (found / voxels).tolist(),
            "voxels": voxels.long().tolist(),
        }


def _sum(values: Tensor, function: Callable[[Tensor], Tensor] = torch.clone) -> float:
    """Return the sum of a function of each value, in float64, a chunk of them at a time."""
    return sum(float(function(part.double()).sum()) for part in values.flatten().split(CHUNK))


def _bin_sums(probability: Tensor, hit: Tensor, bins: int) -> Tensor:
    """Return Σ p, hits and voxels of each bin, (3, bins), float64."""
    sums = torch.zeros(3, bins, dtype=torch.float64, device=probability.device)
    for p, hits in zip(probability.flatten().split(CHUNK), hit.flatten().split(CHUNK), strict=True):
        p = p.double()
        which = (p * bins).long().clamp_(0, bins - 1)
        for total, weights in zip(sums, (p, hits.double(), None), strict=True):
            total += torch.bincount(which, weights=weights, minlength=bins)
    return sums


def _gap(probability: Tensor, hit: Tensor, bins: int) -> float:
    """Return Σ_bins | Σ_voxels (p − [voxel is of the class]) | / voxels of one class."""
    expected, found, _ = _bin_sums(probability, hit, bins)
    return float((expected - found).abs().sum()) / hit.numel()
