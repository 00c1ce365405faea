"""A normalising flow fitted to source kernels, for each group: a flexible prior with an exact density.

    p(w) = t_ν(u; 0, I) · |det ∂u/∂w|,   u = f(L⁻¹ (w − m))

m, S = L Lᵀ and ν are those of the Student t fitted to the same kernels, and f is a masked autoregressive flow (zuko) that
starts as the identity. So a flow starts as that Student t, heavy tails included, and learns what the Student t lacks.

The networks of f see every entry x as x / √(1 + (x/4)²), between −4 and 4. So shifts and scales are bounded, and the tails stay
those of the Student t. Without this bound one large entry shifts the next by even more, and so on: in one fitted group, one draw
in 200 was not finite.

Needs the extra `flows` (zuko). Sampling inverts f one entry at a time, in T passes for each of its transforms.

Axis letters: T entries of a flattened kernel, B batch of kernels.

References:
    Papamakarios, Pavlakou, Murray 2017, Masked Autoregressive Flow for Density Estimation.
    Durkan, Bekasov, Murray, Papamakarios 2019, Neural Spline Flows.
    Jaini, Kobyzev, Yu, Brubaker 2020, Tails of Lipschitz Triangular Flows: the tails of a flow are those of its base.
"""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic
from types import ModuleType
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from pyro_dwp.checks import checked, checked_dataclass
from pyro_dwp.distributions import Reshaped, SharedStudentT
from pyro_dwp.errors import ConfigError
from pyro_dwp.kernels.densities import Elliptical, fit_student_t, flat_kernels
from pyro_dwp.priors.density import Fit, Fitted, GroupDensity, KernelShape, Trainer
from pyro_dwp.priors.learned import LearnedPrior

Transforms = Annotated[int, Ge(1), Le(64)]
Hidden = Annotated[int, Ge(1), Le(4096)]
Bins = Annotated[int, Ge(0), Le(256)]
MOST_WEIGHTS = 100_000_000


def import_flows() -> ModuleType:
    """Return `zuko.flows`; importing zuko turns off the validation of distributions, and this function restores it.

    Raises:
        ConfigError: if zuko is not installed.
    """
    validation = Distribution._validate_args
    try:
        return importlib.import_module("zuko.flows")
    except ImportError as error:
        raise ConfigError(
            f'A flow prior needs zuko, which cannot be imported ({error}). Install it with: pip install "pyro-dwp[flows]"'
        ) from error
    finally:
        Distribution.set_default_validate_args(validation)


class Bounded(nn.Module):
    """Entries x in standard deviations as a network sees them: x / √(1 + (x/b)²), close to x near 0 and always within ±b.

    Args:
        bound: b.
    """

    def __init__(self, bound: float = 4.0) -> None:
        super().__init__()
        self.bound = bound

    def forward(self, entries: Tensor) -> Tensor:
        """Return the bounded entries, of the same shape (..., T)."""
        return entries * (1 + (entries / self.bound).square()).rsqrt()


class FlowDistribution(TorchDistribution):
    """Distribution of vectors that a transform takes to a Student t.

    Exact: its density, and its samples as far as the transform's inverse is.

    Args:
        transform: returns f, from standardised vectors (..., T) to those of the base.
        base: of f's output; batch shape B, event shape (T,).
        mean: m, (T,).
        scale_tril: L, (T, T), of the standardisation L⁻¹ (w − m).
    """

    arg_constraints: Mapping[str, Any] = {}
    has_rsample = True

    def __init__(
        self,
        transform: Callable[[], Any],  # a Transform with zuko's call_and_ladj
        base: TorchDistribution,
        mean: Tensor,
        scale_tril: Tensor,
        validate_args: bool | None = None,
    ) -> None:
        self.transform, self.base, self.centre, self.factor = transform, base, mean, scale_tril
        super().__init__(base.batch_shape, base.event_shape, validate_args=validate_args)

    @constraints.dependent_property(is_discrete=False, event_dim=1)
    def support(self) -> constraints.Constraint:
        """Every real vector."""
        return constraints.real_vector

    def expand(self, batch_shape: torch.Size, _instance: TorchDistribution | None = None) -> "FlowDistribution":
        """Return the distribution of independent vectors in this batch shape."""
        base = self.base.expand(torch.Size(batch_shape))
        return FlowDistribution(self.transform, base, self.centre, self.factor, validate_args=False)

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008 (immutable)
        """Draw with gradients: (*sample_shape, *B, T)."""
        standardised = self.transform().inv(self.base.rsample(torch.Size(sample_shape)))
        return standardised @ self.factor.T + self.centre

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density in nats: (..., T) → (...)."""
        if self._validate_args:
            self._validate_sample(value)
        flat = (value - self.centre).reshape(-1, len(self.factor))
        standardised = torch.linalg.solve_triangular(self.factor, flat.T, upper=False).T.reshape(value.shape)
        moved, log_volume = self.transform().call_and_ladj(standardised)
        return self.base.log_prob(moved) + log_volume - self.factor.diagonal().log().sum()


class FlowDensity(GroupDensity):
    """Masked autoregressive flow of one group.

    Args:
        kernel_shape: (K, ..., K), at least two entries.
        transforms: number of autoregressive transforms; the order of the entries is reversed from one to the next.
        hidden: width of the two hidden layers of the network of each.
        bins: number of bins of the rational-quadratic spline that each entry passes through (a neural spline flow); 0 for shift
            and scale alone.

    Raises:
        ConfigError: if zuko is not installed, a kernel has one entry, or a number is outside its range.
    """

    family = "flow"
    mean: Tensor
    scale_tril: Tensor
    degrees: Tensor

    @checked
    def __init__(
        self, kernel_shape: KernelShape, transforms: Transforms = 3, hidden: Hidden = 128, bins: Bins = 0
    ) -> None:
        super().__init__(kernel_shape, transforms=transforms, hidden=hidden, bins=bins)
        if self.entries < 2:
            raise ConfigError(
                f"A flow describes how the weights of a kernel depend on each other, but kernels of shape "
                f"{tuple(self.kernel_shape)} have one weight. Give such layers a prior of their own, such as gaussian, by a "
                "rule of --prior assigned."
            )
        if bins == 1:
            raise ConfigError("FlowDensity: bins is 1, but a spline has at least 2; 0 takes shift and scale alone.")
        weights = transforms * hidden * (self.entries * (1 + max(2, 3 * bins)) + hidden)
        if weights > MOST_WEIGHTS:
            raise ConfigError(
                f"A flow may have at most {MOST_WEIGHTS:,} weights, but {transforms=}, {hidden=}, {bins=} for kernels of "
                f"{self.entries} entries make {weights:,}. Make them smaller."
            )
        flows, widths = import_flows(), {"transforms": transforms, "hidden_features": (hidden, hidden)}
        made = flows.NSF(self.entries, bins=bins, **widths) if bins else flows.MAF(self.entries, **widths)
        self.transform: nn.Module = made.transform
        for step in self.transform.transforms:  # with its last layer at zero, every step is the identity
            nn.init.zeros_(step.hyper[-1].weight)
            nn.init.zeros_(step.hyper[-1].bias)
            step.hyper = nn.Sequential(Bounded(), *step.hyper)
        self.register_buffer("mean", torch.zeros(self.entries))
        self.register_buffer("scale_tril", torch.eye(self.entries))
        self.register_buffer("degrees", torch.tensor(1e4))

    @property
    def num_parameters(self) -> int:
        """Number of values that the fit chose: those of the transform and of the Student t."""
        return super().num_parameters + self.entries + self.entries * (self.entries + 1) // 2 + 1

    @classmethod
    def check_installed(cls) -> None:
        """Raise ConfigError if zuko is not installed."""
        import_flows()

    def check(self) -> None:
        """Refuse a `scale_tril` that is not a Cholesky factor, and a ν that is not positive."""
        self.require_cholesky("scale_tril")
        self.require_positive("degrees")

    def start_from(self, fit: Elliptical) -> "FlowDensity":
        """Standardise by a Student t, take over its tails, and return the density: untrained, it is that Student t."""
        self.mean.copy_(fit.mean)
        self.scale_tril.copy_(fit.factor)
        self.degrees.fill_(min(fit.degrees, 1e4))
        return self

    def distribution(self, group: str = "") -> TorchDistribution:
        """Return the fitted distribution of one kernel."""
        identity = torch.eye(self.entries, dtype=self.mean.dtype, device=self.mean.device)
        base = SharedStudentT(self.degrees, torch.zeros_like(self.mean), identity)
        return Reshaped(FlowDistribution(self.transform, base, self.mean, self.scale_tril), self.kernel_shape)


class Flow(LearnedPrior):
    """Normalising flow fitted to source kernels, for each group; needs the extra `flows`.

    Args:
        path: a prior saved by `run/train_prior.py --family flow`; None takes the one that ships with the package.

    Raises:
        CheckpointError: if the file is missing, unreadable, incomplete, or of another family.
        ConfigError: if zuko is not installed, or a site's group or kernel shape is not in the file.
    """

    @checked
    def __init__(self, path: Path | None = None) -> None:
        super().__init__(path, FlowDensity, "hippocampus-flow.safetensors")


@checked_dataclass
class FlowFit(Fit):
    """Normalising flow by maximum likelihood, starting from the Student t of the same kernels; needs the extra `flows`.

    Args:
        transforms: number of autoregressive transforms.
        hidden: width of the two hidden layers of the network of each.
        bins: number of bins of the spline that each entry passes through; 0 for shift and scale alone. A spline with 8 bins
            makes a step of inference ten times as long, and takes gigabytes for 26,640 kernels.
    """

    transforms: Transforms = 3
    hidden: Hidden = 128
    bins: Bins = 0

    def fit(self, training: Tensor, validation: Tensor, trainer: Trainer) -> Fitted:
        """Train by Adam; the state that was best on the validation kernels is taken.

        Args:
            training: kernels to fit, (n, K, ...), in units of the weights.
            validation: kernels whose loss controls the learning rate and chooses the best state, (m, K, ...).
            trainer: maximises the likelihood.

        Raises:
            DataError: if there are too few kernels for a covariance.
        """
        torch.manual_seed(trainer.seed)
        density, start = FlowDensity(training.shape[1:], self.transforms, self.hidden, self.bins), monotonic()
        density.start_from(fit_student_t(flat_kernels(training)))
        first = monotonic() - start
        trained = trainer.maximise_likelihood(density, training, validation)
        return Fitted(density, trained.epochs, first + trained.seconds)
