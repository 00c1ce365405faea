"""What a family can reach on a Gaussian target p = N(μ, Λ⁻¹): the optimum of KL(q ‖ p), with exact gradients in float64.

For a family of independent blocks the optimum is known: means μ, each block's covariance the inverse of its block of Λ, so that
KL = ½ (Σ log det Λ_block − log det Λ). Where blocks share one covariance it is the inverse of the mean of the blocks.
"""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from guides import ChannelCovariance, Guide, KernelCovariance, LowRank, MeanField
from pyro_dwp.infer.divergence import unwrap
from pyro_dwp.sites import WeightSite
from tests.helpers.guides import started

SITE = WeightSite("w", torch.Size((2, 2, 2, 2)), "1")
WEIGHTS, KERNELS, ENTRIES = 16, 4, 4
EACH = partial(KernelCovariance, shared=False)


@pytest.fixture(autouse=True)
def _double() -> None:
    torch.set_default_dtype(torch.float64)


def covariance(size: int = WEIGHTS) -> Tensor:
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


def fitted(build: Callable[..., Guide], target: Tensor, steps: int = 3000) -> float:
    """Return the least divergence from N(μ, target) that so many steps reach: the least of all if they are enough."""
    guide = started(build({"w": SITE}), {"w": torch.randn(SITE.shape)})
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
    return divergence(guide, mean, precision).item()


def blocks(precision: Tensor) -> Tensor:
    """Return Λ's block of each kernel, (kernels, entries, entries)."""
    laid_out = precision.reshape(KERNELS, ENTRIES, KERNELS, ENTRIES)
    return torch.stack([laid_out[k, :, k] for k in range(KERNELS)])


def few_directions() -> Tensor:
    directions = torch.randn(WEIGHTS, 2)
    return directions @ directions.T + (torch.rand(WEIGHTS) + 0.5).diag()


OPTIMA = {  # family, target, and Σ log det Λ_block of the blocks that the family keeps apart (None: it reaches the target)
    "mean field": (MeanField, covariance, lambda precision: precision.diagonal().log().sum()),
    "a covariance for each kernel": (EACH, covariance, lambda precision: blocks(precision).logdet().sum()),
    "one covariance for all": (
        KernelCovariance,
        covariance,
        lambda precision: KERNELS * blocks(precision).mean(0).logdet(),
    ),
    "a covariance for each kernel, independent kernels": (
        EACH,
        lambda: torch.block_diag(*[covariance(ENTRIES) for _ in range(KERNELS)]),
        None,
    ),
    "one covariance for all, kernels alike": (
        KernelCovariance,
        lambda: torch.block_diag(*[covariance(ENTRIES)] * KERNELS),
        None,
    ),
    "full rank": (partial(LowRank, rank=WEIGHTS), covariance, None),
    "full rank but one": (partial(LowRank, rank=WEIGHTS - 1), covariance, None),
    "low rank, few directions": (partial(LowRank, rank=2), few_directions, None),
    "channels, Kronecker": (
        ChannelCovariance,
        lambda: torch.kron(torch.kron(covariance(2), covariance(2)), (torch.rand(ENTRIES) + 0.5).diag()),
        None,
    ),
}


@pytest.mark.parametrize("kind", OPTIMA)
def test_a_family_reaches_its_optimum(kind: str) -> None:
    family, make_target, kept = OPTIMA[kind]
    target = make_target()
    precision = torch.linalg.inv(target)
    optimum = 0.5 * (kept(precision) - precision.logdet()).item() if kept else 0.0
    assert fitted(family, target) == pytest.approx(optimum, abs=1e-6)


def test_more_directions_come_closer_to_the_target() -> None:
    target = covariance()
    found = [fitted(MeanField, target)] + [fitted(partial(LowRank, rank=rank), target, 120) for rank in (1, 4, 10)]
    assert found[0] > found[1] > found[2] > found[3] > 0
