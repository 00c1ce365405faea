"""What a learned prior holds for each group of kernels: a density fitted to source kernels, as a module.

To write one, subclass `KernelDensity`, name its family, keep what was fitted in parameters or buffers and return a
distribution over one kernel. `store` then saves and loads it without knowing more.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution
from torch import nn

from pyro_dwp.errors import ConfigError, suggest


class KernelDensity(nn.Module, ABC):
    """A distribution over one kernel of a group; built empty, filled by a fit or by `load_state_dict`.

    Args:
        kernel_shape: (K, ..., K); () for kernels of one weight.
        settings: the other arguments of the subclass's constructor, JSON-able: with them an empty copy is built.
    """

    family: ClassVar[str]
    families: ClassVar[dict[str, type["KernelDensity"]]] = {}

    def __init__(self, kernel_shape: Sequence[int], **settings: Any) -> None:
        super().__init__()
        self.kernel_shape = torch.Size(kernel_shape)
        self.settings = settings

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if "family" in cls.__dict__:
            KernelDensity.families[cls.family] = cls

    @property
    def entries(self) -> int:
        """T, the number of weights of a kernel."""
        return self.kernel_shape.numel()

    @property
    def num_parameters(self) -> int:
        """Number of values that the fit chose."""
        return sum(parameter.numel() for parameter in self.parameters())

    @abstractmethod
    def distribution(self, group: str = "") -> TorchDistribution:
        """Return the distribution of one kernel: batch shape (), event shape `kernel_shape`, in units of the weights.

        Args:
            group: name of the group, for a distribution that has to know it.
        """

    @classmethod
    def check_installed(cls) -> None:
        """Raise ConfigError where the family needs a package that is not installed; most need none."""


def density_class(family: str) -> type[KernelDensity]:
    """Return the class of a family of learned priors.

    Raises:
        ConfigError: if there is none of this name.

    Example:
        >>> import pyro_dwp.priors
        >>> density_class("mixture")(kernel_shape=(3, 3), components=2).distribution().event_shape
        torch.Size([3, 3])
    """
    if family not in KernelDensity.families:
        raise ConfigError(
            f"There is no family of learned priors called {family!r}. {suggest(family, KernelDensity.families)}"
        )
    return KernelDensity.families[family]
