"""From a scan to its prediction on the scan's own grid.

Axis letters: C channels or classes, D H W voxels of the scan, d h w voxels of the network's grid.
"""

import math
from collections.abc import Callable, Sequence

import torch

from pyro_dwp.data import Prepared, Preprocess, Scan
from pyro_dwp.metrics import entropy
from pyro_dwp.nn.windows import Network
from pyro_dwp.predict.posterior import Prediction, posterior_predictive


def on_scan_grid(prediction: Prediction, prepared: Prepared, preprocess: Preprocess) -> Prediction:
    """Bring a prediction from the network's grid to the scan's.

    Probability and mutual information are interpolated linearly, and the entropy is that of the interpolated
    probability. Between the voxels of a coarser grid, where the boundary could be anywhere, the entropy rises. The
    mutual information, which is about the weights, does not; it still lies between 0 and the entropy, because entropy is
    concave. Outside the crop to the head the background is certain. Volumes keep their size in mm³, and are counted in the
    scan's voxels.

    Args:
        prediction: maps over (d, h, w).
        prepared: the case that was predicted.
        preprocess: what prepared it.

    Returns:
        Maps over (D, H, W), float32, on the CPU.
    """
    background = [1.0] + [0.0] * (len(prediction.probability) - 1)
    probability = preprocess.restore(prediction.probability, prepared, fill=background)
    mutual_information = preprocess.restore(prediction.mutual_information[None], prepared)[0]
    ratio = math.prod(stop - start for start, stop in prepared.box) / prediction.entropy.numel()
    volumes = None if prediction.volumes is None else prediction.volumes.cpu() * ratio
    return Prediction(probability, entropy(probability), mutual_information, volumes)


def predict_scan(
    draw: Callable[[], Network],
    scan: Scan,
    preprocess: Preprocess,
    samples: int,
    seed: int,
    window: Sequence[int] | None = None,
    overlap: float = 0.25,
    batch: int = 1,
    device: torch.device | str = "cpu",
) -> Prediction:
    """Prepare a scan, predict it, and bring the result back to the scan's own grid.

    Args:
        draw: returns one sampled network, see `posterior_predictive`.
        scan: image (C, D, H, W).
        preprocess: as in training.
        samples: posterior samples S, 1 to 10,000.
        seed: of the samples.
        window: edges of a sliding window on the network's grid, voxels; None for the whole volume at once.
        overlap: fraction of a window's edge shared with its neighbour, in [0, 1).
        batch: windows per pass through the network.
        device: of the networks that `draw` returns.

    Raises:
        ConfigError: if `samples`, `overlap` or `batch` is out of range, or the window does not fit the volume.
        DataError: if the scan cannot be prepared, or the network returns a NaN or an infinity.
    """
    prepared = preprocess.apply(scan)
    prediction = posterior_predictive(draw, prepared.image.to(device), samples, seed, window, overlap, batch)
    return on_scan_grid(prediction, prepared, preprocess)
