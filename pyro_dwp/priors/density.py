"""What a family of learned priors consists of: a density of one group of kernels, and the fit that finds it.

A family is one file with three classes, such as `mixture.py` or, with far fewer lines, `docs/examples/laplace_family.py`:

- a `GroupDensity`: keeps what was fitted in parameters or buffers and returns a distribution of one kernel;
- a `LearnedPrior`: reads such densities from a file, one for each group;
- a `Fit`: its fields are the settings of a fit, its method `fit` finds the density.

`store` saves and loads densities of any family. The training loop, which families share but priors may not import, is passed to
`fit` as a `Trainer`.

Axis letters: n kernels, K edge of a kernel, T entries of a flattened kernel.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Protocol

import torch
from annotated_types import Ge, Le, MaxLen
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from pyro_dwp.checks import checked
from pyro_dwp.distributions import ImplicitPrior
from pyro_dwp.errors import ConfigError, suggest

KernelShape = Annotated[Sequence[Annotated[int, Ge(1), Le(4096)]], MaxLen(3)]
MOST_ENTRIES = 4096


class GroupDensity(nn.Module, ABC):
    """A distribution over one kernel of a group; built empty, filled by a fit or by `load_state_dict`.

    Args:
        kernel_shape: (K, ..., K), at most 4096 entries; () for kernels of one weight.
        settings: the other arguments of the subclass's constructor, JSON-able; an empty copy is built from them.

    Raises:
        ConfigError: if `kernel_shape` has another form, or too many entries.
    """

    family: ClassVar[str]
    families: ClassVar[dict[str, type["GroupDensity"]]] = {}

    @checked
    def __init__(self, kernel_shape: KernelShape, **settings: Any) -> None:
        super().__init__()
        self.kernel_shape = torch.Size(kernel_shape)
        self.settings = settings
        if self.entries > MOST_ENTRIES:
            raise ConfigError(
                f"A kernel prior is for kernels of at most {MOST_ENTRIES} entries, but the shape {tuple(kernel_shape)} has "
                f"{self.entries}. Give such layers a prior of independent weights, such as gaussian."
            )

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if "family" in cls.__dict__:
            GroupDensity.families[cls.family] = cls

    @property
    def entries(self) -> int:
        """T, the number of weights of a kernel."""
        return self.kernel_shape.numel()

    @property
    def exact(self) -> bool:
        """Whether the distribution has a density; that of an implicit one can only be bounded."""
        return not isinstance(self.distribution(), ImplicitPrior)

    @property
    def num_parameters(self) -> int:
        """Number of values that the fit chose."""
        return sum(parameter.numel() for parameter in self.parameters())

    @abstractmethod
    def distribution(self, group: str = "") -> TorchDistribution:
        """Return the distribution of one kernel: batch shape (), event shape `kernel_shape`, in units of the weights.

        Args:
            group: name of the group, for an `ImplicitPrior`, which carries it.
        """

    def check(self) -> None:
        """Refuse values that do not make a distribution; `store` calls this when it has filled the density from a file.

        Names, shapes, kinds of number and finiteness have been checked by then; the default checks nothing more.

        Raises:
            ValueError: if there are such values; it names the tensor, what it should hold and what it holds.
        """

    def require_positive(self, name: str) -> None:
        """Raise ValueError unless a tensor of the state, such as "encoder.kernel_scale", is positive: for `check`."""
        _require_positive(name, self.state_dict()[name])

    def require_cholesky(self, name: str) -> None:
        """Raise ValueError unless a tensor (..., T, T) of the state holds lower Cholesky factors: for `check`."""
        factors = self.state_dict()[name]
        _require_positive(f"the diagonal of {name}", factors.diagonal(dim1=-2, dim2=-1))
        above = factors.triu(1).flatten()
        if above.any():
            raise ValueError(f"{name} should be 0 above its diagonal, but holds {above[above != 0][0]:.4g} there.")

    @classmethod
    def check_installed(cls) -> None:
        """Raise ConfigError if the family needs a package that is not installed; most need none."""


class Trained(NamedTuple):
    """A training by gradients: its number of epochs, and its wall time in seconds without interruptions."""

    epochs: int
    seconds: float


class Trainer(Protocol):
    """Training of one group's density by gradients, as `pyro_dwp.train.GradientTrainer` does it.

    Attributes:
        seed: of initialisation and draws.
        device: where to compute.
    """

    seed: int
    device: torch.device

    def maximise_likelihood(self, density: GroupDensity, training: Tensor, validation: Tensor) -> Trained:
        """Train a density that has a `log_prob`; the state that was best on the validation kernels is kept.

        Args:
            density: with parameters; moved to the device and trained in place.
            training: kernels to fit, (n, K, ...).
            validation: kernels whose loss controls the learning rate, (m, K, ...).
        """
        ...

    def autoencode(self, density: GroupDensity, training: Tensor, validation: Tensor) -> Trained:
        """Train a density with the attributes `encoder`, `decoder` and `latent_dim` as a variational autoencoder.

        Args:
            density: moved to the device and trained in place.
            training: kernels to fit, (n, K, ...).
            validation: kernels whose loss controls the learning rate, (m, K, ...).
        """
        ...


@dataclass(frozen=True)
class Fitted:
    """What a fit found.

    Args:
        density: of the group.
        steps: epochs of training, or steps of EM; 0 for a closed form.
        seconds: wall time, without interruptions.
    """

    density: GroupDensity
    steps: int
    seconds: float


class Fit(ABC):
    """How a family of learned priors is fitted to the kernels of one group; a subclass's fields are its settings.

    Attributes:
        validates_on: the validation kernels that suit the family: those of whole "networks" that are not fitted, or random
            "kernels". Kernels of fitted networks do not show when a fit learns the peculiarities of these networks.
    """

    validates_on: ClassVar[Literal["networks", "kernels"]] = "networks"

    @abstractmethod
    def fit(self, training: Tensor, validation: Tensor, trainer: Trainer) -> Fitted:
        """Fit the density of one group.

        Args:
            training: kernels to fit, (n, K, ...), in units of the weights.
            validation: kernels that decide when the fit stops, (m, K, ...).
            trainer: seed, device, and training by gradients.

        Raises:
            DataError: if there are too few kernels.
        """


def _require_positive(what: str, values: Tensor) -> None:
    if not (values > 0).all():
        raise ValueError(f"{what} should be positive, but holds {values.min():.4g}.")


def density_class(family: str) -> type[GroupDensity]:
    """Return the class of a family of learned priors.

    Raises:
        ConfigError: if there is no family of this name.

    Example:
        >>> import pyro_dwp.priors
        >>> density_class("mixture")(kernel_shape=(3, 3), components=2).distribution().event_shape
        torch.Size([3, 3])
    """
    if family not in GroupDensity.families:
        raise ConfigError(
            f"There is no family of learned priors called {family!r}. {suggest(family, GroupDensity.families)} A family of "
            "your own is known once its file is imported."
        )
    return GroupDensity.families[family]
