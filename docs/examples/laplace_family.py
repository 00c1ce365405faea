"""A family of learned priors of your own: independent Laplace weights with a width for each place in the kernel.

python run/train_prior.py --bank runs/kernels/bank.safetensors --family laplace_family.py:WidthsFit --name widths
python run/svi_target.py --prior laplace_family.py:Widths --prior.path runs/widths/prior.safetensors
"""

from pathlib import Path

import torch
from pydantic import PositiveFloat
from pyro.distributions import Laplace

from pyro_dwp.checks import checked_dataclass
from pyro_dwp.priors import Fit, Fitted, GroupDensity, LearnedPrior


class WidthsDensity(GroupDensity):
    """Zero-mean Laplace distribution of each weight of one group's kernels."""

    family = "laplace_widths"

    def __init__(self, kernel_shape) -> None:
        super().__init__(kernel_shape)
        self.register_buffer("width", torch.ones(self.kernel_shape))

    def distribution(self, group=""):
        """Return the distribution of one kernel."""
        return Laplace(torch.zeros_like(self.width), self.width).to_event(self.width.dim())

    def check(self) -> None:
        """Refuse widths that make no distribution."""
        self.require_positive("width")


class Widths(LearnedPrior):
    """Laplace weights with fitted widths.

    Args:
        path: a prior fitted by `WidthsFit`.
    """

    def __init__(self, path: Path | None = None) -> None:
        super().__init__(path, WidthsDensity)


@checked_dataclass
class WidthsFit(Fit):
    """Maximum likelihood: the width is the mean absolute weight.

    Args:
        smallest: width that none falls below.
    """

    smallest: PositiveFloat = 1e-6

    def fit(self, training, validation, trainer):
        """Fit to all kernels; nothing has to be validated."""
        density = WidthsDensity(training.shape[1:])
        density.width.copy_(torch.cat([training, validation]).abs().mean(0).clamp_min(self.smallest))
        return Fitted(density, steps=0, seconds=0.0)
