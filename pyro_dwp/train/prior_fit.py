"""How each family of learned priors is fitted to the kernels of one group: settings in, kernels in, density out.

`run/train_prior.py --prior NAME --prior.ARG VALUE` makes one of these. To add a family, subclass `PriorFit`. That of the deep
weight prior is in `models/`, beside the program that it trains.

Axis letters: n kernels, K edge of a kernel.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import torch
from torch import Tensor

from pyro_dwp.errors import DataError
from pyro_dwp.kernels.densities import fit_gaussian, fit_student_t
from pyro_dwp.kernels.information import FEWEST_PER_ENTRY
from pyro_dwp.kernels.mixtures import fit_mixture
from pyro_dwp.priors import EmpiricalDensity, FlowDensity, KernelDensity, MixtureDensity
from pyro_dwp.train.density_task import DensityTask
from pyro_dwp.train.loop import fit
from pyro_dwp.train.schedule import Schedule

CHUNK = 8192


@dataclass(frozen=True)
class Circumstances:
    """Where and how long one group is fitted.

    Args:
        folder: for checkpoints, where the fit leaves any.
        schedule: of a fit by gradients.
        seed: of initialisation and order of the kernels.
        resume: continue from the checkpoint in `folder`.
        device: where to compute.
    """

    folder: Path
    schedule: Schedule
    seed: int = 0
    resume: bool = False
    device: str = "cpu"


@dataclass(frozen=True)
class Fitted:
    """What a fit found.

    Args:
        density: of the group.
        steps: epochs of training, or steps of EM; 0 for a closed form.
        seconds: wall time, interruptions left out.
    """

    density: KernelDensity
    steps: int
    seconds: float


class PriorFit(ABC):
    """How one family of learned priors is fitted.

    Attributes:
        family: name of the density's family.
        exact: whether `log_density` is; else a lower bound.
        steer: what suits the family to be steered by: "networks" that are not fitted, or "kernels".
    """

    family: str
    exact = True
    steer = "networks"

    @property
    def label(self) -> str:
        """Family, and whether its held-out nats are exact or a lower bound."""
        return f"{self.family} ({'exact' if self.exact else 'bound'})"

    @abstractmethod
    def fit(self, training: Tensor, steering: Tensor, where: Circumstances) -> Fitted:
        """Fit the density of one group.

        Args:
            training: kernels to fit, (n, K, ...), in units of the weights.
            steering: kernels that steer the fit, (m, K, ...).
            where: folder, schedule, seed, device.
        """

    @torch.no_grad()
    def log_density(self, density: KernelDensity, kernels: Tensor) -> Tensor:
        """Return the log density of kernels (n, K, ...) in nats, exact, as the stored prior computes it: (n,), float64."""
        template = next(iter(density.state_dict().values()))
        prior, kernels = density.distribution(), kernels.to(template.device, template.dtype)
        return torch.cat([prior.log_prob(chunk) for chunk in kernels.split(CHUNK)]).double().cpu()


class FitEmpirical(PriorFit):
    """Gaussian, or Student t, of the kernels' mean and full covariance; closed form, or EM.

    Args:
        student_t: fit a Student t, with heavy tails, instead of a Gaussian.
    """

    family = EmpiricalDensity.family

    def __init__(self, student_t: bool = False) -> None:
        self.student_t = student_t

    def fit(self, training: Tensor, steering: Tensor, where: Circumstances) -> Fitted:
        """Fit to training and steering kernels alike: there is nothing to steer."""
        start, kernels = monotonic(), _enough(torch.cat([training, steering]))
        found = fit_student_t(kernels) if self.student_t else fit_gaussian(kernels)
        return Fitted(EmpiricalDensity.of(training.shape[1:], found), 0, monotonic() - start)


class FitMixture(PriorFit):
    """Mixture of Gaussians of full covariance, by EM; the steering kernels say how many steps, then they are fitted, too.

    Args:
        components: number of Gaussians.
        shrinkage: pseudo-kernels for each entry that pull a component to the covariance of all kernels; positive.
        steps: most steps of EM.
    """

    family = MixtureDensity.family

    def __init__(self, components: int = 8, shrinkage: float = 1.0, steps: int = 300) -> None:
        self.components, self.shrinkage, self.steps = components, shrinkage, steps

    def fit(self, training: Tensor, steering: Tensor, where: Circumstances) -> Fitted:
        """Fit by EM in float64: until the steering kernels no longer gain, then as many steps (one or more) on all."""
        start, kernels = monotonic(), _enough(training)
        judged = steering.flatten(1).double().cpu()
        settings = self.components, self.shrinkage
        trial = fit_mixture(kernels, judged, *settings, self.steps, where.seed)
        every, steps = torch.cat([kernels, judged]), max(trial.steps, 1)
        found = fit_mixture(every, every, *settings, steps, where.seed, trial.start)
        density = MixtureDensity.of(training.shape[1:], found.mixture)
        return Fitted(density, steps, monotonic() - start)


class FitFlow(PriorFit):
    """Normalising flow by maximum likelihood, from the Student t of the same kernels on; needs the extra `flows`.

    Args:
        transforms: number of autoregressive transforms.
        hidden: width of the two hidden layers of the network of each.
        bins: of the spline that each entry passes through; 0 for shift and scale alone. A spline with 8 bins makes a step
            of inference ten times as dear, and takes gigabytes for 26,640 kernels.
    """

    family = FlowDensity.family

    def __init__(self, transforms: int = 3, hidden: int = 128, bins: int = 0) -> None:
        self.transforms, self.hidden, self.bins = transforms, hidden, bins

    def fit(self, training: Tensor, steering: Tensor, where: Circumstances) -> Fitted:
        """Train by Adam; the state that was best on the steering kernels is taken."""
        torch.manual_seed(where.seed)
        density = FlowDensity(training.shape[1:], self.transforms, self.hidden, self.bins)
        start = monotonic()
        density.start_from(fit_student_t(_enough(training))).to(where.device)
        first = monotonic() - start
        task = DensityTask(density, training, steering, where.schedule.learning_rate)
        history = fit(task, where.schedule, where.folder, where.seed, where.resume)
        task.finish()
        return Fitted(density, len(history.rows), first + history.seconds)


def _enough(kernels: Tensor) -> Tensor:
    """Return kernels flat and in float64, if they are enough for a covariance."""
    flat = kernels.flatten(1).double().cpu()
    if len(flat) < FEWEST_PER_ENTRY * flat.shape[1]:
        raise DataError(
            f"A covariance of {flat.shape[1]} entries needs {FEWEST_PER_ENTRY * flat.shape[1]} kernels to fit or more, but "
            f"{len(flat)} are left. Collect kernels of more networks, or hold out fewer."
        )
    return flat
