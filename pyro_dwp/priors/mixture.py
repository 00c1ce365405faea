r"""Mixtures of correlated Gaussians fitted to source kernels, for each group.

    p(w) = Σ_k π_k N(w; m_k, S_k)

With equal means and covariances that differ only in size this is a scale mixture, whose tails are heavy; otherwise it can tell
kinds of kernels apart. Exact: its density and its moments.

The fit, by EM in float64, maximises the penalised likelihood

    Σ_n log p(w_n) + Σ_k [ s log π_k − ½ s m̃_kᵀ S̃_k⁻¹ m̃_k − ½ s T (log|S̃_k| + tr S̃_k⁻¹) ]

where m̃ and S̃ are mean and covariance in coordinates in which all kernels together are white. So each component is pulled
towards the covariance of all kernels as if it had seen s T more of them: a component of few kernels stays well-conditioned, one
of thousands hardly changes. No step of EM lowers this objective.

EM starts twice: from shells, kernels of similar size (a scale mixture, which heavy tails ask for), and from cones, kernels of
similar direction. Both run for a few steps; the one with the higher validation likelihood continues until that stops rising.

Axis letters: n kernels, K components, T entries of a flattened kernel.

References:
    Dempster, Laird, Rubin 1977. Fraley, Raftery 2007, Bayesian regularization for normal mixture estimation.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le
from pydantic import PositiveFloat
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyro_dwp.checks import checked, checked_dataclass
from pyro_dwp.distributions import GaussianMixture, Reshaped
from pyro_dwp.errors import DataError
from pyro_dwp.kernels.densities import cholesky, fit_gaussian, flat_kernels
from pyro_dwp.priors.density import Fit, Fitted, GroupDensity, KernelShape, Trainer
from pyro_dwp.priors.learned import LearnedPrior

CHUNK = 2048
TRIAL_STEPS = 15
VALIDATE_EVERY = 5
GAIN = 1e-3
TOLERANCE = 1e-4  # of the sum of weights, which rounding to float32 changes by less than 1e-6
Start = Literal["shells", "cones"]
Components = Annotated[int, Ge(1), Le(1000)]
Steps = Annotated[int, Ge(1), Le(100_000)]


class MixtureDensity(GroupDensity):
    """Mixture of Gaussians of one group.

    Args:
        kernel_shape: (K, ..., K).
        components: number of Gaussians.
    """

    family = "mixture"
    log_weights: Tensor
    means: Tensor
    scale_tril: Tensor

    @checked
    def __init__(self, kernel_shape: KernelShape, components: Components = 8) -> None:
        super().__init__(kernel_shape, components=components)
        self.register_buffer("log_weights", torch.zeros(components).log_softmax(0))
        self.register_buffer("means", torch.zeros(components, self.entries))
        self.register_buffer("scale_tril", torch.eye(self.entries).repeat(components, 1, 1))

    @classmethod
    def of(cls, kernel_shape: Sequence[int], mixture: "GaussianMixture") -> "MixtureDensity":
        """Return the density that a fit found.

        Args:
            kernel_shape: (K, ..., K).
            mixture: of flattened kernels.
        """
        density = cls(kernel_shape, len(mixture.log_weights))
        density.log_weights.copy_(mixture.log_weights)
        density.means.copy_(mixture.means)
        density.scale_tril.copy_(mixture.scale_tril)
        return density

    @property
    def num_parameters(self) -> int:
        """K means and symmetric covariances, T (T + 3) / 2 each, and K − 1 weights."""
        components = len(self.log_weights)
        return components * self.entries * (self.entries + 3) // 2 + components - 1

    def check(self) -> None:
        """Refuse weights that do not sum to 1, and a `scale_tril` that does not hold Cholesky factors."""
        self.require_cholesky("scale_tril")
        total = self.log_weights.exp().sum().item()
        if abs(total - 1) > TOLERANCE:
            raise ValueError(
                f"log_weights should be logarithms of weights that sum to 1, but these sum to {total:.4g}."
            )

    def distribution(self, group: str = "") -> TorchDistribution:
        """Return the fitted distribution of one kernel."""
        return Reshaped(GaussianMixture(self.log_weights, self.means, self.scale_tril), self.kernel_shape)


class Mixture(LearnedPrior):
    """Mixture of correlated Gaussians fitted to source kernels, for each group.

    Args:
        path: a prior saved by `run/train_prior.py --family mixture`; None takes the one that ships with the package.

    Raises:
        CheckpointError: if the file is missing, unreadable, incomplete, or of another family.
        ConfigError: if a site's group or kernel shape is not in it.
    """

    @checked
    def __init__(self, path: Path | None = None) -> None:
        super().__init__(path, MixtureDensity, "hippocampus-mixture.safetensors")


@checked_dataclass
class MixtureFit(Fit):
    """Mixture of Gaussians with full covariances, by EM; the validation kernels choose the number of steps.

    Args:
        components: number of Gaussians.
        shrinkage: pseudo-kernels for each entry that pull a component towards the covariance of all kernels.
        steps: largest number of EM steps.
    """

    components: Components = 8
    shrinkage: PositiveFloat = 1.0
    steps: Steps = 300

    def fit(self, training: Tensor, validation: Tensor, trainer: Trainer) -> Fitted:
        """Run EM until the validation kernels no longer gain, then as many steps (one or more) on all kernels.

        Args:
            training: kernels to fit, (n, K, ...), in units of the weights.
            validation: kernels that choose the number of steps, (m, K, ...).
            trainer: its seed is that of the start from cones.

        Raises:
            DataError: if there are too few kernels for a covariance.
        """
        start, kernels = monotonic(), flat_kernels(training)
        others = validation.flatten(1).double().cpu()
        settings = self.components, self.shrinkage
        trial = fit_mixture(kernels, others, *settings, self.steps, trainer.seed)
        every, steps = torch.cat([kernels, others]), max(trial.steps, 1)
        found = fit_mixture(every, every, *settings, steps, trainer.seed, trial.start)
        return Fitted(MixtureDensity.of(training.shape[1:], found.mixture), steps, monotonic() - start)


@dataclass(frozen=True)
class EMResult:
    """What EM found.

    Args:
        mixture: the fitted density, in the units of the kernels.
        objective: penalised log likelihood per kernel before each step, up to a constant, of the start that continued.
        validation: log density of the validation kernels in nats per kernel, after every few steps.
        steps: number of steps to the mixture returned, the best on the validation kernels.
        start: the one that continued.
    """

    mixture: GaussianMixture
    objective: list[float]
    validation: list[float]
    steps: int
    start: Start


@checked
def fit_mixture(
    kernels: Tensor,
    validation: Tensor,
    components: Components,
    shrinkage: PositiveFloat = 1.0,
    steps: Steps = 300,
    seed: int = 0,
    start: Start | None = None,
) -> EMResult:
    """Fit a mixture of Gaussians; of the steps taken, the one that is best on the validation kernels is returned.

    Args:
        kernels: to fit, (n, T), float64.
        validation: kernels not used in the fit, (m, T), float64.
        components: K.
        shrinkage: s, pseudo-kernels for each entry that pull a component towards the covariance of all kernels.
        steps: largest number of EM steps.
        seed: of the start from cones.
        start: "shells" or "cones"; None tries both.

    Raises:
        ConfigError: if a number is outside its range.
        DataError: if there are fewer kernels than components.

    Example:
        >>> kernels = torch.cat([torch.randn(500, 2), 10 + torch.randn(500, 2)]).double()
        >>> found = fit_mixture(kernels[::2], kernels[1::2], components=2)
        >>> [round(weight, 1) for weight in found.mixture.log_weights.exp().tolist()]
        [0.5, 0.5]
    """
    if len(kernels) < components:
        raise DataError(
            f"A mixture needs as many kernels as components, but there are {len(kernels)} kernels to fit and {components=}. "
            "Collect more kernels, or take fewer components."
        )
    whole = fit_gaussian(kernels)
    white, others = (
        torch.linalg.solve_triangular(whole.factor, (w - whole.mean).T, upper=False).T for w in (kernels, validation)
    )
    white = white.contiguous()
    assignments = _starts(white, components, seed)
    trials = {
        name: _Ascent(white, others, assignments[name], components, shrinkage)
        for name in ([start] if start else assignments)
    }
    for trial in trials.values():
        trial.run(min(steps, TRIAL_STEPS))
    chosen = max(trials, key=lambda name: trials[name].best)
    best = trials[chosen]
    best.run(steps - TRIAL_STEPS)
    found, log_volume = best.mixture, float(whole.factor.diagonal().log().sum())
    mixture = GaussianMixture(
        found.log_weights, found.means @ whole.factor.T + whole.mean, whole.factor @ found.scale_tril
    )
    validated = [value - log_volume for value in best.validation]
    return EMResult(mixture, best.objective, validated, best.steps, chosen)


class _Ascent:
    """EM from one start, on white kernels."""

    def __init__(self, kernels: Tensor, others: Tensor, assignment: Tensor, components: int, shrinkage: float) -> None:
        self.kernels, self.others, self.shrinkage = kernels, others, shrinkage
        hard = torch.nn.functional.one_hot(assignment, components).to(kernels.dtype)
        self.current = self.mixture = _maximise(_moments(kernels.split(CHUNK), hard.split(CHUNK)), shrinkage)
        self.objective: list[float] = []
        self.validation = [float(_log_density(self.current, others).mean())]
        self.best, self.steps = self.validation[0], 0

    def run(self, steps: int) -> None:
        """Take steps until they are used up or the validation kernels no longer gain."""
        for step in range(1, steps + 1):
            self.objective.append(self._step())
            if step % VALIDATE_EVERY == 0 or step == steps:
                self.validation.append(float(_log_density(self.current, self.others).mean()))
                gain = self.validation[-1] - self.best
                if gain > 0:
                    self.best, self.mixture, self.steps = self.validation[-1], self.current, len(self.objective)
                if gain < GAIN:
                    return

    def _step(self) -> float:
        """Take one step of EM and return the objective before it."""
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


def _log_density(mixture: GaussianMixture, kernels: Tensor) -> Tensor:
    """Return log p(w) in nats, exact: (n, T) → (n,)."""
    return torch.cat([mixture.log_prob(chunk) for chunk in kernels.split(CHUNK)])


def _penalty(mixture: GaussianMixture, shrinkage: float) -> float:
    entries = mixture.means.shape[1]
    whitener = mixture.whitener()
    distances = (whitener @ mixture.means[..., None]).square().sum((1, 2))
    spread = 2 * mixture.scale_tril.diagonal(dim1=1, dim2=2).log().sum(1) + whitener.square().sum((1, 2))
    return float((shrinkage * (mixture.log_weights - 0.5 * distances - 0.5 * entries * spread)).sum())
