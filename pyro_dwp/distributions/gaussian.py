"""Log density and divergence of diagonal Gaussians as pure functions of mean and log scale, without a distribution object."""

import math

import torch
from torch import Tensor


def gaussian_log_prob(value: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Return log N(value; mean, exp(log_scale)²) in nats, summed over the last axis.

    Args:
        value: (..., T).
        mean: broadcasts with the value.
        log_scale: logarithm of the standard deviation; broadcasts with the value.

    Returns:
        (...).

    Example:
        >>> gaussian_log_prob(torch.zeros(2), torch.zeros(2), torch.zeros(2))
        tensor(-1.8379)
    """
    standardised = (value - mean) * torch.exp(-log_scale)
    return -(0.5 * standardised.square() + log_scale + 0.5 * math.log(2 * math.pi)).sum(-1)


def kl_to_standard_normal(mean: Tensor, log_scale: Tensor) -> Tensor:
    """Return KL(N(mean, exp(log_scale)²) ‖ N(0, I)) in nats, exact, summed over the last axis.

    Args:
        mean: (..., L).
        log_scale: logarithm of the standard deviation, (..., L).

    Returns:
        (...).

    Example:
        >>> kl_to_standard_normal(torch.ones(2), torch.zeros(2))
        tensor(1.)
    """
    return 0.5 * (mean.square() + torch.exp(2 * log_scale) - 1 - 2 * log_scale).sum(-1)
