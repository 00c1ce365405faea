"""Class probabilities of a whole volume from one network, at once or window by window.

Axis letters: B batch, C channels or classes, D H W voxels.
"""

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import Annotated

import torch
from annotated_types import Ge, Le, Lt
from torch import Tensor

from pyro_dwp.checks import checked
from pyro_dwp.errors import ConfigError

Network = Callable[[Tensor], Tensor]
Overlap = Annotated[float, Ge(0), Lt(1)]
WindowBatch = Annotated[int, Ge(1), Le(10_000)]

SIGMA = 0.125  # standard deviation of a window's Gaussian, in edges
FLOOR = 1e-3  # its smallest weight along an axis; the largest is 1
PASS = {"cpu": 2**18, "cuda": 2**21}  # voxels of a pass, of which more gain nothing; the second is assumed


def at_once(grid: Sequence[int], device: torch.device | str) -> int:
    """Return how many volumes a pass without gradients takes together, at least 1.

    Args:
        grid: edges of each, voxels.
        device: where the network computes.

    Example:
        >>> at_once((32, 32, 32), "cpu"), at_once((64, 64, 64), "cpu")
        (8, 1)
    """
    return max(1, PASS.get(torch.device(device).type, PASS["cpu"]) // math.prod(grid))


def fit_window(window: Sequence[int], grid: Sequence[int]) -> tuple[int, ...]:
    """Return the window cut to the grid, so that a small volume is never padded out to the window.

    Args:
        window: edges, voxels.
        grid: edges of the volume, voxels.

    Raises:
        ConfigError: if the window has another number of axes than the grid, or an edge below 1.
    """
    if len(window) != len(grid) or min(window) < 1:
        raise ConfigError(
            f"A window has one positive edge per axis of the volume, but the window is {tuple(window)} and the volume "
            f"{tuple(grid)} voxels. Give {len(grid)} edges in voxels, or no window to predict the volume at once."
        )
    return tuple(min(edge, size) for edge, size in zip(window, grid, strict=True))


@checked
def class_probabilities(
    network: Network,
    image: Tensor,
    window: Sequence[int] | None = None,
    overlap: Overlap = 0.25,
    batch: WindowBatch | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Return softmax(network(image)), computed at once or stitched from overlapping windows.

    Windows are averaged as probabilities, weighted by a Gaussian that trusts a window's centre over its border. They lie on a
    product of one lattice for each axis, so the weights that a voxel receives sum to a product of sums along the axes, which are
    divided by beforehand: nothing but the result itself is held for the whole volume. A window that covers the volume gives
    exactly the result without a window.

    *Warning*: with smaller windows the result differs from that of the whole volume wherever the network looks
    further than the window, as instance normalisation does.

    Args:
        network: (B, C, D, H, W) → logits (B, classes, D, H, W).
        image: (C, D, H, W), or (C, H, W) for a network on slices.
        window: edges of a window, voxels; None for the whole volume.
        overlap: fraction of a window's edge shared with its neighbour, in [0, 1).
        batch: windows per pass through the network; None takes `at_once`.
        device: where the network computes, to which one pass at a time is moved; None computes where the image is. Nothing is
            moved or waited for if the image is there.

    Returns:
        Probabilities, (classes, D, H, W), where the image is.

    Raises:
        ConfigError: if the window does not fit the volume's axes, or `overlap` or `batch` is out of range.
    """
    grid = tuple(image.shape[1:])
    size = grid if window is None else fit_window(window, grid)
    place = image.device if device is None else device
    if size == grid:
        return network(image[None].to(place)).softmax(dim=1)[0].to(image.device)
    axes = [_axis_windows(n, p, overlap, image.device) for n, p in zip(grid, size, strict=True)]
    windows, batch = list(product(*axes)), batch or at_once(size, place)
    stitched = torch.empty(0)
    for first in range(0, len(windows), batch):
        chosen = windows[first : first + batch]
        inside = [(slice(None), *(part for part, _ in window)) for window in chosen]
        found = network(torch.stack([image[part] for part in inside]).to(place)).softmax(dim=1).to(image.device)
        if not first:
            stitched = found.new_zeros(found.shape[1], *grid)
        for part, window_axes, probability in zip(inside, chosen, found, strict=True):
            weights = torch.meshgrid(*(weight.to(found.dtype) for _, weight in window_axes), indexing="ij")
            stitched[part] += probability * math.prod(weights, start=1)
    return stitched


def _axis_windows(voxels: int, edge: int, overlap: float, device: torch.device) -> list[tuple[slice, Tensor]]:
    """Return the windows along an axis, with the share that each of their voxels has in the average, float64 (edge,)."""
    last, step = voxels - edge, max(1, int(edge * (1 - overlap)))
    inside = [slice(start, start + edge) for start in [*range(0, last, step), last]]
    gaussian = torch.exp(-0.5 * ((torch.arange(edge).double() - (edge - 1) / 2) / (SIGMA * edge)) ** 2).clamp_min(FLOOR)
    total = torch.zeros(voxels, dtype=torch.float64)
    for part in inside:
        total[part] += gaussian
    return [(part, (gaussian / total[part]).to(device)) for part in inside]
