"""What a family can reach on a Gaussian target p = N(μ, Λ⁻¹): the optimum of KL(q ‖ p), with exact gradients in float64.

For a family of independent blocks the optimum is known: means μ, each block's covariance the inverse of its block of Λ, so that
KL = ½ (Σ log det Λ_block − log det Λ). Where blocks share one covariance it is the inverse of the mean of the blocks.
"""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from guides import Guide, KernelCovariance, LowRank, MatrixNormal, MeanField
from pyro_dwp.infer.divergence import unwrap
from pyro_dwp.sites import WeightSite

SITE = WeightSite("w", torch.Size((2, 2, 2, 2)), "1")
WEIGHTS, KERNELS, ENTRIES = 16, 4, 4


@pytest.fixture(autouse=True)
def _double() -> None:
    torch.set_default_dtype(torch.float64)


def covariance(size: int) -> Tensor:
    """Return a well correlated covariance of weights of size about 1."""
    root = torch.randn(size, size) / math.sqrt(size)
    return root @ root.T + 0.1 * torch.eye(size)


def dense(guide: Guide) -> Tensor:
    """Return Cov_q(w) of the only site, (n, n), from the parameters of its distribution."""
    q = unwrap(guide.distribution("w"))
    if isinstance(guide, MeanField):
        return q.variance.flatten().diag()
    if isinstance(guide, KernelCovariance):
        return torch.block_diag(*q.base.covariance_matrix.flatten(0, 1))
    if isinstance(guide, LowRank):
        return q.base.covariance_matrix
    rows, columns = (factor @ factor.T for factor in (q.base.row_tril, q.base.column_tril))
    return torch.kron(torch.kron(rows, columns), q.base.scale.square().diag())


def divergence(guide: Guide, mean: Tensor, precision: Tensor) -> Tensor:
    """Return KL(q ‖ N(μ, Λ⁻¹)) in nats, from the guide's own entropy."""
    q = guide.distribution("w")
    offset = q.mean.flatten() - mean
    squares = (precision * dense(guide)).sum() + offset @ precision @ offset
    return 0.5 * (squares - precision.logdet() + WEIGHTS * math.log(2 * math.pi)) - q.entropy()


def fitted(build: Callable[..., Guide], target: Tensor, steps: int = 3000) -> tuple[float, Guide]:
    """Minimise the divergence from N(μ, target), to convergence if there are steps enough; return it with the guide."""
    guide = build({"w": SITE}, {"w": torch.randn(SITE.shape)})
    mean, precision = torch.randn(WEIGHTS), torch.linalg.inv(target)
    optimiser = torch.optim.LBFGS(
        guide.parameters(), max_iter=steps, tolerance_grad=1e-10, tolerance_change=1e-15, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = divergence(guide, mean, precision)
        loss.backward()
        return loss

    optimiser.step(closure)
    return divergence(guide, mean, precision).item(), guide


def blocks(precision: Tensor) -> Tensor:
    """Return Λ's block of each kernel, (kernels, entries, entries)."""
    laid_out = precision.reshape(KERNELS, ENTRIES, KERNELS, ENTRIES)
    return torch.stack([laid_out[k, :, k] for k in range(KERNELS)])


def test_the_mean_field_reaches_its_optimum_variance_the_inverse_of_the_precisions_diagonal() -> None:
    target = covariance(WEIGHTS)
    precision = torch.linalg.inv(target)
    found, guide = fitted(MeanField, target)
    assert found == pytest.approx((0.5 * (precision.diagonal().log().sum() - precision.logdet())).item(), abs=1e-6)
    torch.testing.assert_close(dense(guide).diagonal(), 1 / precision.diagonal(), rtol=1e-4, atol=0)


def test_a_covariance_for_each_kernel_reaches_its_optimum_the_inverse_of_the_precisions_block() -> None:
    target = covariance(WEIGHTS)
    precision = torch.linalg.inv(target)
    found, guide = fitted(lambda *given: KernelCovariance(*given, shared=False), target)
    optimum = 0.5 * (blocks(precision).logdet().sum() - precision.logdet())
    assert found == pytest.approx(optimum.item(), abs=1e-6)
    torch.testing.assert_close(dense(guide), torch.block_diag(*blocks(precision).inverse()), rtol=1e-3, atol=1e-4)
    assert found < 0.9 * fitted(MeanField, target)[0]


def test_one_covariance_for_all_kernels_reaches_its_optimum_the_inverse_of_the_mean_block() -> None:
    target = covariance(WEIGHTS)
    precision = torch.linalg.inv(target)
    found, _ = fitted(KernelCovariance, target)
    optimum = 0.5 * (KERNELS * blocks(precision).mean(0).logdet() - precision.logdet())
    assert found == pytest.approx(optimum.item(), abs=1e-6)


def test_kernel_covariance_reaches_a_target_of_independent_kernels() -> None:
    different = torch.block_diag(*[covariance(ENTRIES) for _ in range(KERNELS)])
    alike = torch.block_diag(*[covariance(ENTRIES)] * KERNELS)
    assert fitted(lambda *given: KernelCovariance(*given, shared=False), different)[0] == pytest.approx(0, abs=1e-6)
    assert fitted(KernelCovariance, alike)[0] == pytest.approx(0, abs=1e-6)
    assert fitted(KernelCovariance, different)[0] > 0.1


@pytest.mark.parametrize("rank", [WEIGHTS - 1, WEIGHTS])
def test_low_rank_at_full_rank_reaches_every_gaussian(rank: int) -> None:
    found, guide = fitted(lambda *given: LowRank(*given, rank=rank), covariance(WEIGHTS))
    assert found == pytest.approx(0, abs=1e-6)
    assert guide.parameter("factor", "w").shape == (WEIGHTS, rank)


def test_low_rank_reaches_a_target_of_its_own_rank() -> None:
    directions = torch.randn(WEIGHTS, 2)
    target = directions @ directions.T + (torch.rand(WEIGHTS) + 0.5).diag()
    assert fitted(lambda *given: LowRank(*given, rank=2), target)[0] == pytest.approx(0, abs=1e-6)


def test_more_ranks_come_closer_from_the_mean_field_to_the_target() -> None:
    target = covariance(WEIGHTS)
    mean_field = fitted(MeanField, target)[0]
    found = [fitted(lambda *given, rank=rank: LowRank(*given, rank=rank), target, 120)[0] for rank in (1, 4, 10)]
    assert mean_field > found[0] > found[1] > found[2] > 0


def test_matrix_normal_reaches_a_kronecker_target() -> None:
    target = torch.kron(torch.kron(covariance(2), covariance(2)), (torch.rand(ENTRIES) + 0.5).diag())
    assert fitted(MatrixNormal, target)[0] == pytest.approx(0, abs=1e-6)
    assert fitted(MatrixNormal, covariance(WEIGHTS))[0] > 0.1
