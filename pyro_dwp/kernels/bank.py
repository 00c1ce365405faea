"""A bank of kernels: what priors are fitted to, by group, with the network that each kernel came from.

Axis letters: K edge of a kernel; n kernels of one group.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le
from pydantic import BaseModel
from torch import Tensor

from pyro_dwp.checks import Share, checked
from pyro_dwp.errors import DataError, suggest
from pyro_dwp.files import check_header, describe_tensor, read_tensors, write_tensors

KIND = "kernel bank"
CURE = "Make one with run/collect_kernels.py."


class Facts(BaseModel, extra="allow"):
    """The facts in a bank's metadata that the library relies on; any of them may be missing."""

    layers: dict[str, list[str]] = {}
    left_out: dict[str, int] = {}
    networks: list[str] = []
    snapshots: int = 1


@dataclass(frozen=True)
class KernelBank:
    """Kernels of trained networks, by group.

    Args:
        kernels: group → kernels, (n, K, K, K) or (n, K, K), floating-point.
        sources: group → index of the source network of each kernel, (n,), integer. Snapshots of one network share it.
        metadata: JSON-able facts: provenance, layers, kernels left out.

    Raises:
        DataError: if the two dictionaries differ in groups or lengths, a group is empty, or a tensor holds the wrong kind
            of number or values that are not finite.

    Example:
        >>> bank = KernelBank({"1": torch.ones(4, 3, 3, 3)}, {"1": torch.tensor([0, 0, 1, 1])})
        >>> bank.groups, bank.networks
        (['1'], [0, 1])
    """

    kernels: dict[str, Tensor]
    sources: dict[str, Tensor]
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.kernels or set(self.kernels) != set(self.sources):
            raise DataError(
                "A kernel bank needs kernels and source indices for the same groups, at least one, but has kernels of "
                f"{sorted(self.kernels)} and sources of {sorted(self.sources)}. {CURE}"
            )
        for group, kernels in self.kernels.items():
            found = describe_tensor(kernels), describe_tensor(self.sources[group])
            wanted = f"floating-point of shape {tuple(kernels.shape)}", f"integer of shape ({len(kernels)},)"
            if kernels.ndim not in (3, 4) or len(kernels) == 0 or found != wanted:
                raise DataError(
                    f"Group {group!r} of a kernel bank needs kernels (n, K, K[, K]), floating-point with n > 0, and n integer "
                    f"source indices, but the kernels are {found[0]}, the indices {found[1]}. {CURE}"
                )
            if (self.sources[group] < 0).any():
                raise DataError(
                    f"Source networks are numbered from 0, but group {group!r} of a kernel bank has others. {CURE}"
                )
            if not kernels.isfinite().all():
                raise DataError(
                    f"Group {group!r} of a kernel bank holds values that are not finite. Leave out the source network "
                    "that diverged and collect again."
                )

    @property
    def groups(self) -> list[str]:
        """Names of the groups, sorted."""
        return sorted(self.kernels)

    @property
    def networks(self) -> list[int]:
        """Indices of the source networks, sorted."""
        return sorted({int(index) for source in self.sources.values() for index in source.unique()})

    def group(self, name: str) -> Tensor:
        """Return the kernels of one group, (n, K, K[, K]).

        Raises:
            DataError: if the bank has no such group.
        """
        if name not in self.kernels:
            raise DataError(f"The kernel bank has no group {name!r}. {suggest(name, self.groups)}")
        return self.kernels[name]

    @checked
    def split(self, name: str, held_out: Share = 0.2, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Split a group into kernels to fit and kernels held out to evaluate the fit.

        If the bank has two networks or more, whole networks are held out, the same ones in every group: kernels of one
        network, and of its later snapshots, resemble each other. With a single network, single kernels are held out, which
        flatters whatever is fitted.

        Args:
            name: the group.
            held_out: share of networks (or kernels) to hold out, between 0 and 1; at least one of them, not all.
            seed: decides which.

        Returns:
            Kernels to fit, (m, K, ...), and held-out kernels, (n - m, K, ...).

        Raises:
            ConfigError: if the share is not between 0 and 1.
            DataError: if one side would be empty.
        """
        chosen = self._held_out(name, held_out, seed)
        return self.kernels[name][~chosen], self.kernels[name][chosen]

    def split_kernels(self, name: str, share: float, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Split a group at random, kernel by kernel: (m, K, ...) and (n - m, K, ...), the second a share of it.

        Args:
            name: the group.
            share: of its kernels, between 0 and 1.
            seed: decides which.

        Raises:
            ConfigError: if the share is not from 0 to 1.
            DataError: if the bank has no such group.
        """
        return split_randomly(self.group(name), share, seed)

    @checked
    def divide(self, held_out: Share = 0.2, seed: int = 0) -> tuple["KernelBank", "KernelBank"]:
        """Divide the bank, each group as `split` does: a bank to fit and a held-out one, both with the same metadata.

        Args:
            held_out: share of networks (or kernels) to hold out, between 0 and 1.
            seed: decides which.

        Raises:
            ConfigError: if the share is not between 0 and 1.
            DataError: if one side of a group would be empty.
        """
        chosen = {name: self._held_out(name, held_out, seed) for name in self.groups}
        fitted, kept_out = (
            KernelBank(
                {name: self.kernels[name][mask] for name, mask in side.items()},
                {name: self.sources[name].cpu()[mask] for name, mask in side.items()},
                self.metadata,
            )
            for side in ({name: ~mask for name, mask in chosen.items()}, chosen)
        )
        return fitted, kept_out

    def _held_out(self, name: str, held_out: float, seed: int) -> Tensor:
        """Return which kernels of a group are held out, (n,), bool."""
        count, networks = len(self.group(name)), self.networks
        sources = self.sources[name].cpu() if len(networks) >= 2 else torch.arange(count)
        items = torch.tensor(networks) if len(networks) >= 2 else sources
        chosen = torch.isin(sources, split_randomly(items, held_out, seed)[1])
        if chosen.all() or not chosen.any():
            raise DataError(
                f"Holding out {held_out:g} of group {name!r} ({count} kernels of {len(networks)} network(s)) "
                "leaves one side empty. Collect kernels of more networks, or change the share held out."
            )
        return chosen

    def save(self, path: Path | str) -> None:
        """Write the bank as one .safetensors file, its metadata in the header."""
        tensors = {f"{group}/kernels": kernels.float() for group, kernels in self.kernels.items()}
        tensors |= {f"{group}/sources": source.long() for group, source in self.sources.items()}
        write_tensors(path, KIND, tensors, self.metadata)

    @classmethod
    def load(cls, path: Path | str) -> "KernelBank":
        """Read a bank.

        Raises:
            DataError: if the file is missing, truncated, not a kernel bank, inconsistent, or has facts of the wrong type.
        """
        tensors, metadata = read_tensors(path, KIND, CURE, DataError)
        check_header(Facts, metadata, f"The header of {path}", CURE, DataError)
        kernels, sources = (_part(tensors, ending) for ending in ("/kernels", "/sources"))
        if len(kernels) + len(sources) < len(tensors):
            raise DataError(f"{path} holds tensors that are neither kernels nor source indices. {CURE}")
        try:
            return cls(kernels, sources, metadata)
        except DataError as problem:
            raise DataError(f"{path}: {problem}") from problem


@checked
def split_randomly(items: Tensor, share: Annotated[float, Ge(0), Le(1)], seed: int) -> tuple[Tensor, Tensor]:
    """Split a tensor along its first axis into the rest and a random share of it, each in its original order.

    Args:
        items: (n, ...).
        share: of the items, from 0 to 1; at least one of them, and where n > 1 not all.
        seed: decides which.

    Returns:
        The rest and the share.

    Raises:
        ConfigError: if the share is outside this range.

    Example:
        >>> rest, share = split_randomly(torch.arange(10), 0.2, seed=0)
        >>> len(rest), len(share)
        (8, 2)
    """
    count = max(min(round(len(items) * share), len(items) - 1), 1)
    order = torch.randperm(len(items), generator=torch.Generator().manual_seed(seed))
    return items[order[count:].sort().values], items[order[:count].sort().values]


def root_mean_square(kernels: Tensor) -> float:
    """Return the root mean square of all entries, the number that standardises the kernels of a group."""
    return float(kernels.double().square().mean().sqrt())


def _part(tensors: Mapping[str, Tensor], ending: str) -> dict[str, Tensor]:
    return {name.removesuffix(ending): tensor for name, tensor in tensors.items() if name.endswith(ending)}
