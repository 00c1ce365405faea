"""The mean of independent samples against the value that is known."""

from typing import Any

import torch
from torch import Tensor


def assert_mean(samples: Tensor, expected: Any, within: float, bias: float = 0.0, errors: float = 4.0) -> None:
    """Check that samples (N, ...) have the expected mean.

    Args:
        samples: independent along the first axis.
        expected: a number or a tensor (...).
        within: what the standard error has to be below, so that the comparison says something.
        bias: by how much the expectation of the samples may differ.
        errors: allowed standard errors.
    """
    error = samples.std(0) / len(samples) ** 0.5
    assert (error < within).all()
    assert ((samples.mean(0) - torch.as_tensor(expected)).abs() <= errors * error + bias).all()
