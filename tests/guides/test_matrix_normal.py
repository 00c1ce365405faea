import math

import pytest
import torch

from guides import MatrixNormal
from pyro_dwp.sites import WeightSite

SHAPES = [(5,), (4, 3), (4, 3, 1, 1, 1), (4, 3, 2, 2)]


def guide_over(shape: tuple[int, ...]) -> MatrixNormal:
    site = WeightSite("w", torch.Size(shape), "1")
    guide = MatrixNormal({"w": site}, {"w": torch.randn(shape)}, relative_scale=0.2)
    with torch.no_grad():
        for kind in ("rows", "columns"):
            guide.parameter(kind, "w").normal_()
    return guide


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_starts_with_independent_weights_of_one_width(shape: tuple[int, ...]) -> None:
    start = torch.randn(shape)
    q = MatrixNormal({"w": WeightSite("w", torch.Size(shape), "1")}, {"w": start}, 0.2).distribution("w")
    torch.testing.assert_close(q.variance, (0.2**2 * start.square().mean()).expand(shape))
    assert torch.equal(q.base.row_tril, torch.eye(shape[0]))
    assert torch.equal(q.base.column_tril, torch.eye((*shape, 1)[1]))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sizes_are_in_the_scale_alone_and_so_is_the_entropy(shape: tuple[int, ...]) -> None:
    q = guide_over(shape).distribution("w")
    for factor in (q.base.row_tril, q.base.column_tril):
        torch.testing.assert_close(factor.diagonal().prod(), torch.tensor(1.0))
    channels = math.prod(shape[:2])
    expected = 0.5 * math.prod(shape) * (1 + math.log(2 * math.pi)) + channels * q.base.scale.log().sum()
    torch.testing.assert_close(q.entropy(), expected)


@pytest.mark.parametrize("kind", ["rows", "columns"])
def test_a_common_shift_of_a_factors_log_diagonal_changes_nothing(kind: str) -> None:
    guide = guide_over((4, 3, 2, 2))
    value = torch.randn(4, 3, 2, 2)
    before = guide.distribution("w").log_prob(value)
    with torch.no_grad():
        root = guide.parameter(kind, "w")
        root.add_(0.7 * torch.eye(len(root)))
    torch.testing.assert_close(guide.distribution("w").log_prob(value), before, rtol=1e-4, atol=1e-3)


def test_rows_are_output_channels_and_columns_input_channels() -> None:
    guide = guide_over((4, 3, 2, 2))
    q = guide.distribution("w")
    with torch.no_grad():
        draws = (q.sample((4000,)) - q.mean).movedim(0, -1)
    rows, columns = (factor @ factor.T for factor in (q.base.row_tril, q.base.column_tril))
    scale = q.base.scale.reshape(2, 2).square()
    variance = q.variance
    for one, other in (((0, 1, 0, 1), (2, 1, 0, 1)), ((3, 0, 1, 1), (3, 2, 1, 1)), ((1, 0, 0, 0), (1, 0, 1, 1))):
        found = (draws[one] * draws[other]).mean()
        expected = rows[one[0], other[0]] * columns[one[1], other[1]] * scale[one[2:]] * (one[2:] == other[2:])
        error = ((variance[one] * variance[other] + expected**2) / len(draws)).sqrt()
        assert (found - expected).abs() < 4 * error
