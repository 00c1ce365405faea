"""What `AuxiliaryELBO` needs for implicit priors: the auxiliary encoders, and the kernels whose bound each of them tightens."""

from collections.abc import Mapping

import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyro_dwp.distributions import ImplicitPrior
from pyro_dwp.errors import ConfigError, suggest
from pyro_dwp.infer.bounds import cross_entropy_bound, scaled_subset
from pyro_dwp.sites import module_key


class AuxiliaryEncoders(PyroModule):
    """The encoders r(z|w), one for each group of kernels with an implicit prior, and the number of gradient steps taken.

    A PyroModule, so that `SVI.step` sees the encoders' parameters when the bound is computed.

    Args:
        encoders: group → module from kernels (N, T) to mean and log standard deviation of z, each (N, L).
    """

    steps: Tensor

    def __init__(self, encoders: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.groups = list(encoders)
        for group, encoder in encoders.items():
            self.add_module(f"group:{module_key(group)}", encoder)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, group: str) -> nn.Module:
        """Return the encoder of this group.

        Raises:
            ConfigError: if there is none.
        """
        if group not in self.groups:
            raise ConfigError(
                f"The prior of kernel group {group!r} is implicit, so the ELBO needs an auxiliary encoder for it. "
                f"{suggest(group, self.groups)} Build it as AuxiliaryELBO(prior.encoders())."
            )
        encoder: nn.Module = getattr(self, f"group:{module_key(group)}")
        return encoder


class ImplicitKernels:
    """All sampled kernels that share an auxiliary encoder; they may have several implicit priors."""

    def __init__(self) -> None:
        self.priors: list[ImplicitPrior] = []
        self.kernels: list[Tensor] = []  # each (N, T)
        self.scales: list[Tensor] = []  # each (N,), from poutine.scale
        self.owners: list[Tensor] = []  # each (N,): which of the priors a kernel has

    def add(self, prior: ImplicitPrior, weight: Tensor, scale: float | Tensor) -> None:
        """Add the kernels of a site.

        Args:
            prior: of one kernel, with any batch shape.
            weight: the guide's draw, (O, I, K, ..., K).
            scale: factor on the site's log density.
        """
        index = next((i for i, other in enumerate(self.priors) if _same(prior, other)), len(self.priors))
        if index == len(self.priors):
            self.priors.append(prior)
        kernels = weight.reshape(-1, prior.event_shape.numel())
        self.kernels.append(kernels)
        self.scales.append(kernels.new_ones(len(kernels)) * scale)
        self.owners.append(torch.full((len(kernels),), index, device=kernels.device))

    def bound(self, encoder: nn.Module, count: int | None, draws: int, doubly: bool) -> tuple[Tensor, Tensor]:
        """Return Σ KL(r ‖ p(z)) and −Σ log p(w|z) in nats, from a random subset of the kernels.

        Args:
            encoder: r(z|w) of the group.
            count: size of the subset; None takes all.
            draws: M, latent draws per kernel.
            doubly: see `bounds.importance_bound`.
        """
        kernels, scales, owners = (torch.cat(parts) for parts in (self.kernels, self.scales, self.owners))
        chosen, factor = scaled_subset(len(kernels), count, kernels.device)
        owners, weights = owners[chosen], factor * scales[chosen]

        def log_prob(w: Tensor, z: Tensor) -> Tensor:
            if len(self.priors) == 1:
                return self.priors[0].conditional_log_prob(w, z)
            found = z.new_zeros(z.shape[:-1])
            for index, prior in enumerate(self.priors):
                rows = (owners == index).nonzero().squeeze(-1)
                if len(rows):
                    found = found.index_copy(-1, rows, prior.conditional_log_prob(w[rows], z[..., rows, :]))
            return found

        bound = cross_entropy_bound(kernels[chosen], encoder, log_prob, draws, doubly)
        misfit = bound.total - bound.kl_latent
        return (weights * bound.kl_latent).sum(), (weights * misfit).sum()


def _same(one: ImplicitPrior, other: ImplicitPrior) -> bool:
    """Tell whether two priors are certainly the same apart from their batch shape; a wrong False only costs time."""
    mine, theirs = ({k: v for k, v in vars(prior).items() if k != "_batch_shape"} for prior in (one, other))
    return (
        type(one) is type(other)
        and mine.keys() == theirs.keys()
        and all(value is theirs[key] or _equal(value, theirs[key]) for key, value in mine.items())
    )


def _equal(one: object, other: object) -> bool:
    return isinstance(one, str | int | float | tuple) and type(one) is type(other) and one == other
