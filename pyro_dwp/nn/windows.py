"""Class probabilities of a whole volume from one network, at once or window by window.

Axis letters: B batch, C channels or classes, D H W voxels.
"""

from collections.abc import Callable, Sequence
from typing import Annotated

from annotated_types import Ge, Le, Lt
from torch import Tensor

from pyro_dwp.checks import checked
from pyro_dwp.errors import ConfigError

Network = Callable[[Tensor], Tensor]
Overlap = Annotated[float, Ge(0), Lt(1)]
WindowBatch = Annotated[int, Ge(1), Le(10_000)]


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
    batch: WindowBatch = 1,
) -> Tensor:
    """Return softmax(network(image)), computed at once or stitched from overlapping windows.

    Windows are averaged as probabilities, weighted by a Gaussian that trusts a window's centre over its border, and
    the average sums to 1 again. A window that covers the volume gives exactly the result without a window.

    *Warning*: with smaller windows the result differs from that of the whole volume wherever the network looks
    further than the window, as instance normalisation does.

    Args:
        network: (B, C, D, H, W) → logits (B, classes, D, H, W).
        image: (C, D, H, W), or (C, H, W) for a network on slices.
        window: edges of a window, voxels; None for the whole volume.
        overlap: fraction of a window's edge shared with its neighbour, in [0, 1).
        batch: windows per pass through the network.

    Returns:
        Probabilities, (classes, D, H, W).

    Raises:
        ConfigError: if the window does not fit the volume's axes, or `overlap` or `batch` is out of range.
    """

    def probabilities(x: Tensor) -> Tensor:
        return network(x).softmax(dim=1)

    grid = tuple(image.shape[1:])
    size = grid if window is None else fit_window(window, grid)
    if size == grid:
        return probabilities(image[None])[0]
    from monai.inferers.utils import sliding_window_inference  # here, because importing MONAI takes over a second

    stitched = sliding_window_inference(image[None], size, batch, probabilities, overlap=overlap, mode="gaussian")
    assert isinstance(stitched, Tensor)  # one tensor in, one tensor out; other networks return other containers
    return (stitched / stitched.sum(dim=1, keepdim=True))[0]
