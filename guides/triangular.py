"""Triangular factors of covariances from unconstrained matrices."""

from torch import Tensor


def tril_from_root(root: Tensor) -> Tensor:
    """Return the Cholesky factor L with L_ii = exp(R_ii) and L_ij = L_ii R_ij below the diagonal, for any real matrix R.

    Below its diagonal R has no unit, and its diagonal is a logarithm: a step of the optimiser changes the covariance by the same
    fraction whatever the size of the weights.

    Args:
        root: R, (..., n, n); entries above the diagonal are not used.

    Example:
        >>> import torch
        >>> tril_from_root(torch.tensor([[0.0, 9.0], [0.5, torch.tensor(2.0).log()]]))
        tensor([[1., 0.],
                [1., 2.]])
    """
    diagonal = root.diagonal(dim1=-2, dim2=-1).exp()
    return diagonal[..., None] * root.tril(-1) + diagonal.diag_embed()
