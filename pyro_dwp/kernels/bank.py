"""A bank of kernels: what a prior is fitted to, by group, with the network each kernel came from.

Axis letters: K edge of a kernel; n kernels of one group.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyro_dwp.errors import ConfigError, DataError, suggest
from pyro_dwp.kernels.tensor_file import read_tensor_file, write_tensor_file

KIND = "kernel bank"
CURE = "Make one with run/collect_kernels.py."


@dataclass(frozen=True)
class KernelBank:
    """Kernels of trained networks, by group.

    Args:
        kernels: group → kernels, (n, K, K, K) or (n, K, K).
        sources: group → index of the source network of each kernel, (n,), int64. Snapshots of one network share it.
        metadata: JSON-able facts: provenance, layers, kernels left out.

    Raises:
        DataError: if the two dictionaries differ in groups or lengths, a group is empty, or a value is not finite.

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
            source = self.sources[group]
            if kernels.ndim not in (3, 4) or len(kernels) == 0 or source.shape != (len(kernels),):
                raise DataError(
                    f"Group {group!r} of a kernel bank needs kernels (n, K, K[, K]), n > 0, and n source indices, but "
                    f"has shapes {tuple(kernels.shape)} and {tuple(source.shape)}. {CURE}"
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

    def split(self, name: str, held_out: float = 0.2, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Split a group into kernels to fit and kernels to judge the fit by.

        Where the bank has two networks or more, whole networks are held out, the same ones in every group: kernels of
        one network, and of its later snapshots, resemble each other. With a single network single kernels are held
        out, which flatters whatever is fitted.

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
        judged = self._held_out(name, held_out, seed)
        return self.kernels[name][~judged], self.kernels[name][judged]

    def split_kernels(self, name: str, share: float, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Split a group at random, kernel by kernel: (m, K, ...) and (n - m, K, ...), the second a share of it."""
        return split_randomly(self.group(name), share, seed)

    def divide(self, held_out: float = 0.2, seed: int = 0) -> tuple["KernelBank", "KernelBank"]:
        """Divide the bank as `split` does each of its groups: a bank to fit and a bank to judge, both with these facts.

        Raises:
            ConfigError: if the share is not between 0 and 1.
            DataError: if one side of a group would be empty.
        """
        judged = {name: self._held_out(name, held_out, seed) for name in self.groups}
        fit, judge = (
            KernelBank(
                {name: self.kernels[name][mask] for name, mask in side.items()},
                {name: self.sources[name].cpu()[mask] for name, mask in side.items()},
                self.metadata,
            )
            for side in ({name: ~mask for name, mask in judged.items()}, judged)
        )
        return fit, judge

    def _held_out(self, name: str, held_out: float, seed: int) -> Tensor:
        """Return which kernels of a group judge, (n,), bool."""
        if not 0 < held_out < 1:
            raise ConfigError(
                f"The share held out lies between 0 and 1, but received {held_out}. The usual one is 0.2."
            )
        count, networks = len(self.group(name)), self.networks
        if len(networks) >= 2:
            _, chosen = split_randomly(torch.tensor(networks), held_out, seed)
            judged = torch.isin(self.sources[name].cpu(), chosen)
        else:
            _, chosen = split_randomly(torch.arange(count), held_out, seed)
            judged = torch.isin(torch.arange(count), chosen)
        if judged.all() or not judged.any():
            raise DataError(
                f"Holding out {held_out:g} of group {name!r} ({count} kernels of {len(networks)} network(s)) "
                "leaves one side empty. Collect kernels of more networks, or change the share held out."
            )
        return judged

    def save(self, path: Path | str) -> None:
        """Write the bank as one .safetensors file, its metadata in the header."""
        tensors = {f"{group}/kernels": kernels.float() for group, kernels in self.kernels.items()}
        tensors |= {f"{group}/sources": source.long() for group, source in self.sources.items()}
        write_tensor_file(path, KIND, tensors, self.metadata)

    @classmethod
    def load(cls, path: Path | str) -> "KernelBank":
        """Read a bank.

        Raises:
            DataError: if the file is missing, truncated, no kernel bank, or inconsistent.
        """
        tensors, metadata = read_tensor_file(path, KIND, DataError, CURE)
        try:
            return cls(_part(tensors, "/kernels"), _part(tensors, "/sources"), metadata)
        except DataError as problem:
            raise DataError(f"{path}: {problem}") from problem


def split_randomly(items: Tensor, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Split a tensor along its first axis into the rest and a random share of it, each in its former order.

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
    if not 0 <= share <= 1:
        raise ConfigError(f"A share of the whole is a number from 0 to 1, but received {share}. Change it.")
    count = max(min(round(len(items) * share), len(items) - 1), 1)
    order = torch.randperm(len(items), generator=torch.Generator().manual_seed(seed))
    return items[order[count:].sort().values], items[order[:count].sort().values]


def root_mean_square(kernels: Tensor) -> float:
    """Return the root mean square of all entries, the one number that standardises a group's kernels."""
    return float(kernels.double().square().mean().sqrt())


def _part(tensors: Mapping[str, Tensor], ending: str) -> dict[str, Tensor]:
    return {name.removesuffix(ending): tensor for name, tensor in tensors.items() if name.endswith(ending)}
