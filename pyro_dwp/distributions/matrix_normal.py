"""Gaussian over matrices with one covariance among the rows and one among the columns.

    W_t = M_t + s_t A E_t Bᵀ,   entries of E_t independent standard normals,   t = 1 … T

so that W_t ~ MN(M_t, s_t U, s_t V) with U = A Aᵀ over the O rows and V = B Bᵀ over the I columns, both shared by the T
matrices, which are independent of each other. Flattened in the order (O, I, T), the covariance is U ⊗ V ⊗ diag(s²). Hence

    H(W) = ½ O I T (1 + log 2π) + I T Σ log A_oo + O T Σ log B_ii + O I Σ log s_t
    Cov(W_oit, W_pjt) = U_op V_ij s_t²

with A and B lower triangular. The three factors are determined only up to scale: (a A, B / a) gives the same distribution.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints


class MatrixNormal(TorchDistribution):
    """T matrices with one covariance among their rows and one among their columns; everything is exact.

    Sampling costs O T I (O + I) multiplications; a density costs as much, for triangular solves.

    Args:
        loc: means M, (O, I, T).
        row_tril: A, (O, O), lower triangular with positive diagonal.
        column_tril: B, (I, I), likewise.
        scale: s, (T,), positive.

    References:
        Gupta, Nagar 1999, Matrix Variate Distributions, chapter 2.

    Example:
        >>> matrices = MatrixNormal(torch.zeros(3, 2, 9), torch.eye(3), 2 * torch.eye(2), torch.full((9,), 0.5))
        >>> matrices.event_shape, matrices.variance.unique()
        (torch.Size([3, 2, 9]), tensor([1.]))
    """

    arg_constraints: Mapping[str, Any] = {
        "loc": constraints.independent(constraints.real, 3),
        "row_tril": constraints.lower_cholesky,
        "column_tril": constraints.lower_cholesky,
        "scale": constraints.independent(constraints.positive, 1),
    }
    support = constraints.independent(constraints.real, 3)
    has_rsample = True

    def __init__(
        self,
        loc: Tensor,
        row_tril: Tensor,
        column_tril: Tensor,
        scale: Tensor,
        batch_shape: torch.Size = torch.Size(),  # noqa: B008 (immutable)
        validate_args: bool | None = None,
    ) -> None:
        rows, columns, entries = loc.shape
        wanted = {"row_tril": (rows, rows), "column_tril": (columns, columns), "scale": (entries,)}
        for name, value in (("row_tril", row_tril), ("column_tril", column_tril), ("scale", scale)):
            if tuple(value.shape) != wanted[name]:
                raise ValueError(
                    f"Means of shape {tuple(loc.shape)} need {name} of shape {wanted[name]}, not {tuple(value.shape)}."
                )
        self.loc, self.row_tril, self.column_tril, self.scale = loc, row_tril, column_tril, scale
        super().__init__(torch.Size(batch_shape), loc.shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        """M, (*B, O, I, T)."""
        return self.loc.expand(self.batch_shape + self.event_shape)

    @property
    def variance(self) -> Tensor:
        """U_oo V_ii s_t², (*B, O, I, T)."""
        rows, columns = (factor.square().sum(-1) for factor in (self.row_tril, self.column_tril))
        variance = rows[:, None, None] * columns[:, None] * self.scale.square()
        return variance.expand(self.batch_shape + self.event_shape)

    def expand(self, batch_shape: torch.Size, _instance: TorchDistribution | None = None) -> "MatrixNormal":
        """Return the distribution of independent events in this batch shape."""
        return MatrixNormal(self.loc, self.row_tril, self.column_tril, self.scale, batch_shape, validate_args=False)

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008 (immutable)
        """Draw with gradients: (*sample_shape, *B, O, I, T)."""
        shape = self._extended_shape(torch.Size(sample_shape))
        noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        noise = (self.row_tril @ noise.flatten(-2)).reshape(shape)
        return self.loc + self.scale * (self.column_tril @ noise)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density in nats: (..., O, I, T) → (...)."""
        if self._validate_args:
            self._validate_sample(value)
        offset = (value - self.loc) / self.scale
        rows, columns, _ = self.event_shape
        by_row = torch.linalg.solve_triangular(self.row_tril, offset.flatten(-2), upper=False)
        by_column = by_row.reshape(offset.shape).transpose(-3, -2).flatten(-2)
        noise = torch.linalg.solve_triangular(self.column_tril, by_column, upper=False)
        squares = noise.square().sum((-2, -1))
        return -0.5 * (squares + rows * columns * len(self.scale) * math.log(2 * math.pi)) - self._half_log_det()

    def entropy(self) -> Tensor:
        """Return the entropy in nats, of shape B."""
        entropy = 0.5 * self.event_shape.numel() * (1 + math.log(2 * math.pi)) + self._half_log_det()
        return entropy.expand(self.batch_shape)

    def _half_log_det(self) -> Tensor:
        rows, columns, entries = self.event_shape
        by_row, by_column = (factor.diagonal().log().sum() for factor in (self.row_tril, self.column_tril))
        return columns * entries * by_row + rows * entries * by_column + rows * columns * self.scale.log().sum()
