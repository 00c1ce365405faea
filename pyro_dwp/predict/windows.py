"""Class probabilities of a whole volume from one network, at once or window by window.

Axis letters: B batch, C channels or classes, D H W voxels.
"""

from collections.abc import Callable, Sequence

from monai.inferers.utils import sliding_window_inference
from torch import Tensor

from pyro_dwp.errors import ConfigError

Network = Callable[[Tensor], Tensor]


def fit_window(window: Sequence[int], grid: Sequence[int], overlap: float) -> tuple[int, ...]:
    """Return the window cut to the grid, so that a small volume is never padded out to the window.

    Raises:
        ConfigError: if the window has another number of axes than the grid, an edge below 1, or `overlap` is outside
            [0, 1).
    """
    if len(window) != len(grid) or min(window) < 1:
        raise ConfigError(
            f"A window has one positive edge per axis of the volume, but the window is {tuple(window)} and the volume "
            f"{tuple(grid)} voxels. Give {len(grid)} edges in voxels, or no window to predict the volume at once."
        )
    if not 0 <= overlap < 1:
        raise ConfigError(f"The overlap of windows is a fraction from 0 to below 1, but overlap is {overlap}.")
    return tuple(min(edge, size) for edge, size in zip(window, grid, strict=True))


def class_probabilities(
    network: Network, image: Tensor, window: Sequence[int] | None = None, overlap: float = 0.25, batch: int = 1
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

    if batch < 1:
        raise ConfigError(f"At least one window is predicted at a time, but batch is {batch}.")
    grid = tuple(image.shape[1:])
    size = grid if window is None else fit_window(window, grid, overlap)
    if size == grid:
        return probabilities(image[None])[0]
    stitched = sliding_window_inference(image[None], size, batch, probabilities, overlap=overlap, mode="gaussian")
    assert isinstance(stitched, Tensor)  # one tensor in, one tensor out; other networks return other containers
    return (stitched / stitched.sum(dim=1, keepdim=True))[0]
