"""What a learned prior holds for each group of kernels: a density fitted to source kernels, as a module.

To write one, subclass `KernelDensity`, name its family, keep what was fitted in parameters or buffers and return a
distribution over one kernel. `store` then saves and loads it without knowing more. Where some values that fit in these
tensors make no distribution, override `check`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

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

    def check(self) -> None:
        """Refuse values that make no distribution; `store` asks once it has filled the density from a file.

        Shapes, kinds of numbers and finiteness are checked without it, and the default asks no more.

        Raises:
            ValueError: if there are such values; it names the tensor, what it should hold and what it holds.
        """

    def require_positive(self, name: str) -> None:
        """Raise ValueError unless a tensor of the state, such as "encoder.kernel_scale", is positive: for `check`."""
        _require_positive(name, self.state_dict()[name])

    def require_cholesky(self, name: str) -> None:
        """Raise ValueError unless a tensor (..., T, T) of the state holds Cholesky factors, lower ones: for `check`."""
        factors = self.state_dict()[name]
        _require_positive(f"the diagonal of {name}", factors.diagonal(dim1=-2, dim2=-1))
        above = factors.triu(1).flatten()
        if above.any():
            raise ValueError(f"{name} should be 0 above its diagonal, but holds {above[above != 0][0]:.4g} there.")

    @classmethod
    def check_installed(cls) -> None:
        """Raise ConfigError where the family needs a package that is not installed; most need none."""


def _require_positive(what: str, values: Tensor) -> None:
    if not (values > 0).all():
        raise ValueError(f"{what} should be positive, but holds {values.min():.4g}.")


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
