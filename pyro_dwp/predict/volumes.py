"""From a scan to its prediction on the scan's own grid, and to NIfTI files.

Axis letters: C channels or classes, D H W voxels of the scan, d h w voxels of the network's grid.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from pyro_dwp.data import Prepared, Preprocess, Scan, write_volume
from pyro_dwp.data.scan import Affine
from pyro_dwp.predict.posterior import Prediction, entropy, posterior_predictive
from pyro_dwp.predict.windows import Network

MASK = "_mask"
MAPS = ("_probability", "_entropy", "_mutual_information")


def on_scan_grid(prediction: Prediction, prepared: Prepared, preprocess: Preprocess) -> Prediction:
    """Bring a prediction from the network's grid to the scan's.

    Probability and mutual information are interpolated linearly, and the entropy is that of the interpolated
    probability. Between voxels of a coarser grid, where the boundary could be anywhere, it rises, and the mutual
    information, which is about the weights, does not; it still lies between 0 and the entropy, because entropy is
    concave. Outside the crop to the head the background is certain.

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
    return Prediction(probability, entropy(probability), mutual_information)


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
        samples: posterior samples S, at least 1.
        seed: of the samples.
        window: edges of a sliding window on the network's grid, voxels; None for the whole volume at once.
        overlap: fraction of a window's edge shared with its neighbour, in [0, 1).
        batch: windows per pass through the network.
        device: of the networks that `draw` returns.

    Raises:
        ConfigError: if `samples` is below 1, or the window does not fit the volume.
        DataError: if the scan cannot be prepared, or the network returns a NaN or an infinity.
    """
    prepared = preprocess.apply(scan)
    prediction = posterior_predictive(draw, prepared.image.to(device), samples, seed, window, overlap, batch)
    return on_scan_grid(prediction, prepared, preprocess)


def write_prediction(folder: Path, name: str, prediction: Prediction, affine: Affine) -> dict[str, Path]:
    """Write a prediction as NIfTI volumes, each whole or not at all.

    NAME_mask.nii.gz is the most probable class (uint8). The others are float32: NAME_probability.nii.gz, of the
    foreground (with more than two classes NAME_probability_1.nii.gz and so on, one for each but the background),
    NAME_entropy.nii.gz and NAME_mutual_information.nii.gz, both in nats.

    Args:
        folder: made where it is missing.
        name: of the case.
        prediction: on the scan's own grid, (D, H, W).
        affine: of the scan, voxel indices to mm, (4, 4).

    Returns:
        What each file holds, e.g. "mask", → its path.

    Raises:
        DataError: if a file cannot be written.
    """
    foreground = 1 - prediction.probability[0]
    if len(prediction.probability) == 2:
        probabilities = {"probability": foreground}
    else:
        probabilities = {f"probability_{index}": p for index, p in enumerate(prediction.probability) if index > 0}
    maps = {**probabilities, "entropy": prediction.entropy, "mutual_information": prediction.mutual_information}
    paths = {"mask": write_volume(folder / f"{name}{MASK}.nii.gz", prediction.mask, affine, "uint8")}
    for kind, volume in maps.items():
        paths[kind] = write_volume(folder / f"{name}_{kind}.nii.gz", volume, affine, "float32")
    return paths
