"""How the guides with a covariance start, and what their parameters mean."""

import math
from functools import partial

import pytest
import torch

from guides import ChannelCovariance, KernelCovariance, LowRank, MeanField
from tests.helpers.guides import make
from tests.helpers.monte_carlo import assert_mean

SHAPES = pytest.mark.parametrize("shape", [(5,), (4, 3), (4, 3, 1, 1, 1), (4, 3, 2, 2)], ids=str)
FAMILIES = {
    "mean field": MeanField,
    "kernels": KernelCovariance,
    "each kernel": partial(KernelCovariance, shared=False),
    "rank 1": partial(LowRank, rank=1),
    "rank 5": partial(LowRank, rank=5),
    "channels": ChannelCovariance,
}


def channels(shape: tuple[int, ...]) -> ChannelCovariance:
    guide = make(ChannelCovariance, {"w": torch.randn(shape)}, relative_scale=0.2)
    with torch.no_grad():
        for kind in ("rows", "columns"):
            guide.parameter(kind, "w").normal_()
    return guide


@SHAPES
@pytest.mark.parametrize("kind", FAMILIES)
def test_every_weight_starts_with_the_same_variance(kind: str, shape: tuple[int, ...]) -> None:
    start = torch.randn(shape)
    q = make(FAMILIES[kind], {"w": start}, relative_scale=0.2).distribution("w")
    torch.testing.assert_close(q.variance, (0.2**2 * start.square().mean()).expand(shape))
    if kind == "channels":
        assert torch.equal(q.base.row_tril, torch.eye(shape[0]))
        assert torch.equal(q.base.column_tril, torch.eye((*shape, 1)[1]))
    elif "rank" in kind:  # a hundredth of it in the factor
        share = q.base.cov_factor.square().sum(-1) / q.base.variance
        torch.testing.assert_close(share, torch.full_like(share, 0.01))
    elif "kernel" in kind:
        covariance = q.base_dist.base.covariance_matrix
        assert not (covariance - torch.diag_embed(covariance.diagonal(dim1=-2, dim2=-1))).any()


def test_the_same_step_of_the_parameters_is_the_same_change_at_every_size_of_weights() -> None:
    start, correlations = torch.randn(5, 3, 2, 2), []
    for begin in (start, 1e-3 * start):
        guide = make(KernelCovariance, {"w": begin})
        with torch.no_grad():
            guide.parameter("root", "w").add_(0.3 * torch.ones(4, 4))
        covariance = guide.distribution("w").base_dist.base.covariance_matrix[0, 0].detach()
        correlations.append(covariance / begin.square().mean())
    torch.testing.assert_close(*correlations)


def test_a_covariance_is_held_once_and_directions_differ_and_are_no_more_than_the_weights() -> None:
    start = {"bias": torch.randn(3), "conv": torch.randn(8, 4, 3, 3)}
    shapes = [make(FAMILIES[kind], start).parameter("root", "conv").shape for kind in ("kernels", "each kernel")]
    assert shapes == [(9, 9), (8, 4, 9, 9)]
    guide = make(LowRank, start, rank=5)
    assert torch.linalg.matrix_rank(guide.parameter("factor", "conv")) == 5
    assert guide.parameter("factor", "conv").shape == (288, 5)
    assert guide.parameter("factor", "bias").shape == (3, 3)


@SHAPES
def test_sizes_are_in_the_scale_alone_and_so_is_the_entropy(shape: tuple[int, ...]) -> None:
    q = channels(shape).distribution("w")
    for factor in (q.base.row_tril, q.base.column_tril):
        torch.testing.assert_close(factor.diagonal().prod(), torch.tensor(1.0))
    logs = math.prod(shape[:2]) * q.base.scale.log().sum()
    torch.testing.assert_close(q.entropy(), 0.5 * math.prod(shape) * (1 + math.log(2 * math.pi)) + logs)


@pytest.mark.parametrize("kind", ["rows", "columns"])
def test_a_common_shift_of_a_factors_log_diagonal_changes_nothing(kind: str) -> None:
    guide, value = channels((4, 3, 2, 2)), torch.randn(4, 3, 2, 2)
    before = guide.distribution("w").log_prob(value)
    with torch.no_grad():
        root = guide.parameter(kind, "w")
        root.add_(0.7 * torch.eye(len(root)))
    torch.testing.assert_close(guide.distribution("w").log_prob(value), before, rtol=1e-4, atol=1e-3)


def test_rows_are_output_channels_and_columns_input_channels() -> None:
    q = channels((4, 3, 2, 2)).distribution("w")
    with torch.no_grad():
        draws = (q.sample((4000,)) - q.mean).movedim(0, -1)
    rows, columns = (factor @ factor.T for factor in (q.base.row_tril, q.base.column_tril))
    scale = q.base.scale.reshape(2, 2).square()
    for one, other in (((0, 1, 0, 1), (2, 1, 0, 1)), ((3, 0, 1, 1), (3, 2, 1, 1)), ((1, 0, 0, 0), (1, 0, 1, 1))):
        expected = rows[one[0], other[0]] * columns[one[1], other[1]] * scale[one[2:]] * (one[2:] == other[2:])
        assert_mean(draws[one] * draws[other], expected, within=0.1)
