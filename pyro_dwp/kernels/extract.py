"""Cut the convolutions of trained networks into kernels, by group.

Axis letters: O I output and input channels of a layer, K edge of a kernel, n kernels of one group.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import NonNegativeFloat
from torch import Tensor, nn

from pyro_dwp.checks import checked
from pyro_dwp.errors import DataError, suggest
from pyro_dwp.kernels.bank import KernelBank

MINIMUM_NORM = 1e-2


@dataclass(frozen=True)
class NetworkKernels:
    """Kernels of one network.

    Args:
        kernels: group → kernels, (n, K, K, K) or (n, K, K), float32.
        left_out: group → number of kernels left out for their tiny norm.
        layers: group → names of its layers' weights.
    """

    kernels: dict[str, Tensor]
    left_out: dict[str, int]
    layers: dict[str, list[str]]


@checked
def network_kernels(
    weights: Mapping[str, Tensor] | nn.Module, groups: Mapping[str, str], minimum_norm: NonNegativeFloat = MINIMUM_NORM
) -> NetworkKernels:
    """Cut a network's convolutions into kernels, one per pair of output and input channel.

    Kernels whose L2 norm is below `minimum_norm` have no structure to speak of; they are left out and counted.

    Args:
        weights: a network, or its state_dict.
        groups: name of a convolution's weight, (O, I, K, ...), → its group; `UNet.kernel_groups()`.
        minimum_norm: smallest L2 norm of a kernel that is kept, in units of the weights.

    Raises:
        ConfigError: if `minimum_norm` is negative or not finite.
        DataError: if the network lacks a weight, or a weight holds values that are not finite.

    References:
        Kuzina, Egorov, Burnaev 2019, section 3: kernels of tiny norm are left out of the prior's training set.

    Example:
        >>> from pyro_dwp.nn.unet import UNet
        >>> network = UNet(channels=(4, 8))
        >>> found = network_kernels(network, network.kernel_groups())
        >>> {group: tuple(kernels.shape) for group, kernels in found.kernels.items()}
        {'1': (36, 3, 3, 3), '2': (192, 3, 3, 3), '3': (32, 3, 3, 3)}
    """
    state = weights.state_dict() if isinstance(weights, nn.Module) else weights
    kernels: dict[str, Tensor] = {}
    left_out: dict[str, int] = {}
    layers: dict[str, list[str]] = {}
    for name, group in groups.items():
        if name not in state:
            raise DataError(f"The network has no weight {name!r} to cut into kernels. {suggest(name, state)}")
        cut = state[name].detach().flatten(0, 1).float().cpu()
        if not cut.isfinite().all():
            raise DataError(f"{name!r} holds values that are not finite: training diverged. Leave this network out.")
        kept = cut[cut.flatten(1).norm(dim=1) >= minimum_norm]
        kernels[group] = torch.cat([kernels[group], kept]) if group in kernels else kept
        left_out[group] = left_out.get(group, 0) + len(cut) - len(kept)
        layers.setdefault(group, []).append(name)
    return NetworkKernels(kernels, left_out, layers)


@checked
def collect_kernels(
    networks: Iterable[tuple[str, Mapping[str, Tensor] | nn.Module]],
    groups: Mapping[str, str],
    minimum_norm: NonNegativeFloat = MINIMUM_NORM,
    provenance: Mapping[str, Any] | None = None,
) -> KernelBank:
    """Pool the kernels of several networks in one bank.

    Args:
        networks: pairs of the source network's name and its weights; snapshots of one network share the name. Weights
            are copied before the next pair is asked for.
        groups: name of a convolution's weight → its group.
        minimum_norm: smallest L2 norm of a kernel that is kept, in units of the weights.
        provenance: JSON-able facts to keep in the bank's metadata.

    Returns:
        The bank; its metadata holds "left_out" and "layers" by group, "networks" (names, in the order of their
        indices), "snapshots" (their number), "minimum_norm" and "provenance".

    Raises:
        ConfigError: if `minimum_norm` is negative or not finite.
        DataError: if there is no network, or every kernel of a group is below `minimum_norm`.
    """
    indices: dict[str, int] = {}
    cuts = [
        (indices.setdefault(name, len(indices)), network_kernels(weights, groups, minimum_norm))
        for name, weights in networks
    ]
    if not cuts:
        raise DataError("A kernel bank needs at least one trained network, but received none. Train source networks.")
    names = list(cuts[0][1].kernels)
    left_out = {name: sum(cut.left_out[name] for _, cut in cuts) for name in names}
    kernels = {name: torch.cat([cut.kernels[name] for _, cut in cuts]) for name in names}
    sources = {name: torch.cat([torch.full((len(cut.kernels[name]),), index) for index, cut in cuts]) for name in names}
    for name in names:
        if not len(kernels[name]):
            raise DataError(
                f"All {left_out[name]} kernels of group {name!r} have a norm below {minimum_norm:g}. Use a smaller "
                "minimum norm, or source networks trained with less weight decay."
            )
    metadata = {
        "left_out": left_out,
        "layers": cuts[0][1].layers,
        "networks": list(indices),
        "snapshots": len(cuts),
        "minimum_norm": minimum_norm,
        "provenance": dict(provenance or {}),
    }
    return KernelBank(kernels, sources, metadata)
