"""What `AuxiliaryELBO` needs for implicit priors: the auxiliary encoders, and the kernels whose bound each of them tightens."""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from pyro.nn import PyroModule
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pyro_dwp.distributions import ImplicitPrior
from pyro_dwp.errors import ConfigError, suggest
from pyro_dwp.infer.bounds import CrossEntropyBound, cross_entropy_bound, scaled_subset
from pyro_dwp.sites import module_key

CHUNK = 2048  # latents that are decoded at a time


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

    def bound(self, encoder: nn.Module, count: int | None, draws: int, doubly: bool) -> CrossEntropyBound:
        """Return an upper bound on −Σ log p(w) in nats, each term (), from a random subset of the kernels.

        The kernels pass through encoder and decoder in chunks, whose activations fit a processor's cache. Where every prior names
        its `density`, which then holds all parameters of p(w|z), no activations are kept: see `SumNow`.

        Args:
            encoder: r(z|w) of the group.
            count: size of the subset; None takes all.
            draws: M, latent draws per kernel.
            doubly: see `bounds.importance_bound`.
        """
        columns = [torch.cat(parts) for parts in (self.kernels, self.scales, self.owners)]
        chosen, factor = scaled_subset(len(columns[0]), count, columns[0].device)
        kernels, scales, owners = (column if chosen is None else column[chosen] for column in columns)

        def terms(w: Tensor, rows: slice) -> list[Tensor]:
            log_prob = partial(self._log_prob, owners[rows])
            bound = cross_entropy_bound(w, encoder, log_prob, draws, doubly)
            return [factor * scales[rows] @ term for term in bound]

        size = max(1, CHUNK // draws)
        densities = [prior.density for prior in self.priors if prior.density is not None]
        if len(densities) < len(self.priors) or not torch.is_grad_enabled():
            chunks = [terms(kernels[rows], rows) for rows in slices(len(kernels), size)]
            return CrossEntropyBound(*(torch.stack(column).sum() for column in zip(*chunks, strict=True)))
        learned = dict.fromkeys(p for module in (encoder, *densities) for p in module.parameters() if p.requires_grad)
        return CrossEntropyBound(*SumNow.apply(terms, size, kernels, *learned))

    def _log_prob(self, owners: Tensor, w: Tensor, z: Tensor) -> Tensor:
        """Return log p(w|z) of kernels, each under the prior that it has."""
        if len(self.priors) == 1:
            return self.priors[0].conditional_log_prob(w, z)
        found = z.new_zeros(z.shape[:-1])
        for index, prior in enumerate(self.priors):
            rows = (owners == index).nonzero().squeeze(-1)
            if len(rows):
                found = found.index_copy(-1, rows, prior.conditional_log_prob(w[rows], z[..., rows, :]))
        return found


class SumNow(torch.autograd.Function):
    """A sum over kernels whose gradient is taken along with it, chunk by chunk: activations of one chunk alone exist at a time.

    The first of the terms is differentiable, once; the others are for the record.
    """

    @staticmethod
    def forward(  # type: ignore[no-untyped-def]
        ctx, terms: Callable[[Tensor, slice], list[Tensor]], size: int, kernels: Tensor, *learned: Tensor
    ) -> tuple[Tensor, ...]:
        """Return the sums of the terms, each ().

        Args:
            ctx: keeps the gradients.
            terms: of some kernels, (n, T), and their place among all.
            size: kernels in a chunk.
            kernels: (N, T).
            learned: parameters that the terms depend on.
        """
        kept = [parameter.grad for parameter in learned]
        found, slopes = [], []
        for parameter in learned:
            parameter.grad = None
        for rows in slices(len(kernels), size):
            with torch.enable_grad():
                chunk = kernels[rows].detach().requires_grad_()
                values = terms(chunk, rows)
                values[0].backward(inputs=[chunk, *learned])
            slopes.append(torch.zeros_like(chunk) if chunk.grad is None else chunk.grad)
            found.append([value.detach() for value in values])
        sums = [torch.zeros_like(parameter) if parameter.grad is None else parameter.grad for parameter in learned]
        for parameter, gradient in zip(learned, kept, strict=True):
            parameter.grad = gradient
        ctx.save_for_backward(torch.cat(slopes), *sums)
        totals = tuple(torch.stack(column).sum() for column in zip(*found, strict=True))
        ctx.mark_non_differentiable(*totals[1:])
        return totals

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[no-untyped-def]
        """Return the gradients of kernels and parameters."""
        return None, None, *(gradient * slope for slope in ctx.saved_tensors)


def slices(count: int, size: int) -> list[slice]:
    """Return the chunks of at most so many of `count` rows."""
    return [slice(first, first + size) for first in range(0, count, size)]


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
