r"""Mixtures of Gaussians with full covariances, fitted to kernels by EM in float64.

    p(w) = Σ_k π_k N(w; m_k, S_k)

EM climbs the penalised likelihood

    Σ_n log p(w_n) + Σ_k [ s log π_k − ½ s m̃_kᵀ S̃_k⁻¹ m̃_k − ½ s T (log|S̃_k| + tr S̃_k⁻¹) ]

where m̃ and S̃ are mean and covariance in coordinates that make all kernels together white. So each component is pulled
to the covariance of all kernels as if it had seen s T more of them: a component of few kernels stays well-conditioned, one of
thousands does not notice. No step of EM lowers this.

It starts twice: from shells, kernels of similar size (a scale mixture, which heavy tails ask for), and from cones, kernels
of similar direction. Both run for a few steps; the one that is better on kernels not used in the fit goes on, until those no
longer gain.

Axis letters: n kernels, K components, T entries of a flattened kernel.

References:
    Dempster, Laird, Rubin 1977. Fraley, Raftery 2007, Bayesian regularization for normal mixture estimation.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pyro_dwp.errors import ConfigError
from pyro_dwp.kernels.densities import cholesky, fit_gaussian

CHUNK = 2048
TRIAL_STEPS = 15
STEER_EVERY = 5
TOLERANCE = 1e-3
Start = Literal["shells", "cones"]


@dataclass(frozen=True)
class GaussianMixture:
    """A mixture of Gaussians.

    Args:
        log_weights: log π, (K,).
        means: (K, T).
        factors: lower Cholesky factors of the covariances, (K, T, T).
    """

    log_weights: Tensor
    means: Tensor
    factors: Tensor

    def log_joint(self, kernels: Tensor) -> Tensor:
        """Return log π_k + log N(w; m_k, S_k) in nats for kernels (n, T): (n, K)."""
        components, entries = self.means.shape
        eye = torch.eye(entries, dtype=self.factors.dtype).expand_as(self.factors)
        whitener = torch.linalg.solve_triangular(self.factors, eye, upper=False)
        offset = (whitener @ self.means[..., None]).squeeze(-1)
        white = (kernels @ whitener.flatten(0, 1).T).view(-1, components, entries) - offset
        log_volume = self.factors.diagonal(dim1=1, dim2=2).log().sum(1) + 0.5 * entries * math.log(2 * math.pi)
        return self.log_weights - log_volume - 0.5 * white.square().sum(-1)

    def log_density(self, kernels: Tensor) -> Tensor:
        """Return log p(w) in nats, exact: (n, T) → (n,)."""
        return torch.cat([self.log_joint(chunk).logsumexp(1) for chunk in kernels.split(CHUNK)])


@dataclass(frozen=True)
class MixtureFit:
    """What EM found.

    Args:
        mixture: the fitted density, in the units of the kernels.
        objective: penalised log likelihood per kernel before each step, up to a constant, of the start that went on.
        steering: log density of the steering kernels in nats per kernel, after every few steps.
        steps: taken until the mixture that is returned, that best on the steering kernels.
        start: the one that went on.
    """

    mixture: GaussianMixture
    objective: list[float]
    steering: list[float]
    steps: int
    start: Start


def fit_mixture(
    kernels: Tensor,
    steering: Tensor,
    components: int,
    shrinkage: float = 1.0,
    steps: int = 300,
    seed: int = 0,
    start: Start | None = None,
) -> MixtureFit:
    """Fit a mixture of Gaussians; of the steps taken, the one best on the steering kernels is returned.

    Args:
        kernels: to fit, (n, T), float64.
        steering: kernels not used in the fit, (m, T), float64.
        components: K.
        shrinkage: s, pseudo-kernels for each entry that pull a component to the covariance of all; positive.
        steps: most steps of EM.
        seed: of the start from cones.
        start: "shells" or "cones"; None tries both.

    Raises:
        ConfigError: if there are fewer kernels than components, or a number is outside its range.

    Example:
        >>> kernels = torch.cat([torch.randn(500, 2), 10 + torch.randn(500, 2)]).double()
        >>> fit = fit_mixture(kernels[::2], kernels[1::2], components=2)
        >>> [round(weight, 1) for weight in fit.mixture.log_weights.exp().tolist()]
        [0.5, 0.5]
    """
    if components < 1 or steps < 1 or not 0 < shrinkage < math.inf or len(kernels) < components:
        raise ConfigError(
            "A mixture needs one component and one step or more, a positive shrinkage and as many kernels as components, "
            f"but received {components=}, {steps=}, {shrinkage=} and {len(kernels)} kernels. Change the settings."
        )
    whole = fit_gaussian(kernels)
    white, judged = (
        torch.linalg.solve_triangular(whole.factor, (w - whole.mean).T, upper=False).T for w in (kernels, steering)
    )
    white = white.contiguous()
    assignments = _starts(white, components, seed)
    trials = {
        name: _Climb(white, judged, assignments[name], components, shrinkage)
        for name in ([start] if start else assignments)
    }
    for trial in trials.values():
        trial.run(min(steps, TRIAL_STEPS))
    chosen = max(trials, key=lambda name: trials[name].best)
    best = trials[chosen]
    best.run(steps - TRIAL_STEPS)
    found, log_volume = best.mixture, float(whole.factor.diagonal().log().sum())
    mixture = GaussianMixture(
        found.log_weights, found.means @ whole.factor.T + whole.mean, whole.factor @ found.factors
    )
    steered = [value - log_volume for value in best.steering]
    return MixtureFit(mixture, best.objective, steered, best.steps, chosen)


class _Climb:
    """EM from one start, on white kernels."""

    def __init__(self, kernels: Tensor, judged: Tensor, assignment: Tensor, components: int, shrinkage: float) -> None:
        self.kernels, self.judged, self.shrinkage = kernels, judged, shrinkage
        hard = torch.nn.functional.one_hot(assignment, components).to(kernels.dtype)
        self.current = self.mixture = _maximise(_moments(kernels.split(CHUNK), hard.split(CHUNK)), shrinkage)
        self.objective: list[float] = []
        self.steering = [float(self.current.log_density(judged).mean())]
        self.best, self.steps = self.steering[0], 0

    def run(self, steps: int) -> None:
        """Take steps until they are used up or the steering kernels no longer gain."""
        for step in range(1, steps + 1):
            self.objective.append(self._step())
            if step % STEER_EVERY == 0 or step == steps:
                self.steering.append(float(self.current.log_density(self.judged).mean()))
                gain = self.steering[-1] - self.best
                if gain > 0:
                    self.best, self.mixture, self.steps = self.steering[-1], self.current, len(self.objective)
                if gain < TOLERANCE:
                    return

    def _step(self) -> float:
        """Move the mixture by one step of EM and return the objective of where it was."""
        total = 0.0

        def responsibilities() -> Iterator[Tensor]:
            nonlocal total
            for chunk in self.kernels.split(CHUNK):
                joint = self.current.log_joint(chunk)
                density = joint.logsumexp(1, keepdim=True)
                total += float(density.sum())
                yield (joint - density).exp()

        moments = _moments(self.kernels.split(CHUNK), responsibilities())
        penalty = _penalty(self.current, self.shrinkage)
        self.current = _maximise(moments, self.shrinkage)
        return (total + penalty) / len(self.kernels)


def _starts(white: Tensor, components: int, seed: int) -> dict[Start, Tensor]:
    """Return two assignments of kernels to components, (n,) each: shells of equal numbers, and cones around kernels."""
    count = len(white)
    shells = white.square().sum(1).argsort().argsort() * components // count
    chosen = torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:components]
    cones = (white @ torch.nn.functional.normalize(white[chosen], dim=1).T).argmax(1)
    cones[chosen] = torch.arange(components)
    return {"shells": shells, "cones": cones}


def _moments(
    chunks: tuple[Tensor, ...], shares: Iterator[Tensor] | tuple[Tensor, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return Σ r, (K,), Σ r w, (K, T), and Σ r w wᵀ, (K, T, T), over chunks of kernels and their responsibilities."""
    count, first, second = torch.zeros(()), torch.zeros(()), torch.zeros(())
    for kernels, share in zip(chunks, shares, strict=True):
        count = count + share.sum(0)
        first = first + share.T @ kernels
        weighted = (share[:, :, None] * kernels[:, None, :]).flatten(1)
        second = second + (weighted.T @ kernels).unflatten(0, (share.shape[1], -1))
    return count, first, second


def _maximise(moments: tuple[Tensor, Tensor, Tensor], shrinkage: float) -> GaussianMixture:
    """Return the mixture that maximises the expected penalised likelihood, given moments of white kernels."""
    count, first, second = moments
    entries = first.shape[1]
    means = first / (count + shrinkage)[:, None]
    scatter = second - (count + shrinkage)[:, None, None] * means[:, :, None] * means[:, None, :]
    pulled = scatter + shrinkage * entries * torch.eye(entries, dtype=first.dtype)
    weights = (count + shrinkage) / (count + shrinkage).sum()
    return GaussianMixture(weights.log(), means, cholesky(pulled / (count + shrinkage * entries)[:, None, None]))


def _penalty(mixture: GaussianMixture, shrinkage: float) -> float:
    entries = mixture.means.shape[1]
    eye = torch.eye(entries, dtype=mixture.means.dtype).expand_as(mixture.factors)
    whitener = torch.linalg.solve_triangular(mixture.factors, eye, upper=False)
    distances = (whitener @ mixture.means[..., None]).square().sum((1, 2))
    spread = 2 * mixture.factors.diagonal(dim1=1, dim2=2).log().sum(1) + whitener.square().sum((1, 2))
    return float((shrinkage * (mixture.log_weights - 0.5 * distances - 0.5 * entries * spread)).sum())
