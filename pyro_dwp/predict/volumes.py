"""From a scan to its prediction on the scan's own grid.

Axis letters: C channels or classes, D H W voxels of the scan, d h w voxels of the network's grid.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from pyro_dwp.data import Image, Prepared, Preprocess, Scan, Sequences, Spacing
from pyro_dwp.errors import ConfigError
from pyro_dwp.metrics import entropy, tempered
from pyro_dwp.nn.windows import Network
from pyro_dwp.predict.posterior import Prediction, posterior_predictive
from pyro_dwp.predict.postprocess import Postprocess


def on_scan_grid(
    prediction: Prediction, prepared: Prepared, preprocess: Preprocess, temperature: float = 1.0
) -> Prediction:
    """Bring a prediction from the network's grid to the scan's.

    Probability and mutual information are interpolated linearly, and the entropy is that of the interpolated
    probability. Between the voxels of a coarser grid, where the boundary could be anywhere, the entropy rises. The
    mutual information, which is about the weights, does not; it still lies between 0 and the entropy, because entropy is
    concave. Outside the crop to the head the background is certain. Volumes keep their size in mm³, and are counted in the
    scan's voxels.

    A temperature is applied to the interpolated probability, so that it changes no mask (but for ties within rounding).
    Volumes and mutual information stay those of the samples, the latter up to the new entropy.

    Args:
        prediction: maps over (d, h, w).
        prepared: the case that was predicted.
        preprocess: what prepared it.
        temperature: T of `metrics.tempered`; 1 changes nothing.

    Returns:
        Maps over (D, H, W), float32, on the CPU.
    """
    background = [1.0] + [0.0] * (len(prediction.probability) - 1)
    probability = tempered(preprocess.restore(prediction.probability, prepared, fill=background), temperature)
    mutual_information = preprocess.restore(prediction.mutual_information[None], prepared)[0]
    ratio = math.prod(stop - start for start, stop in prepared.box) / prediction.entropy.numel()
    volumes = None if prediction.volumes is None else prediction.volumes.cpu() * ratio
    total = entropy(probability)
    if temperature != 1:
        mutual_information = mutual_information.minimum(total)
    return Prediction(probability, total, mutual_information, volumes)


@dataclass(frozen=True)
class Predictor:
    """What stands between a scan and its prediction: the posterior, the preprocessing, and how samples are drawn.

    Args:
        draw: returns one sampled network, see `posterior_predictive`.
        preprocess: as in training.
        samples: posterior samples S, 1 to 10,000.
        seed: of the samples; every scan sees the same networks.
        window: edges of a sliding window on the network's grid, voxels; None for the whole volume at once.
        overlap: share of a window's edge that it has in common with its neighbour.
        batch: windows per pass through a network.
        device: of the networks that `draw` returns.
        postprocess: what is done to the mask on the scan's grid; None leaves the most probable classes.
        temperature: of the probabilities, as `calibrate` fits it; 1 leaves them as they are.
        sequences: that a scan must have; None takes scans that have been read, and does not count their channels.

    Raises:
        ConfigError: if the post-processing names a structure that the preprocessing does not.
    """

    draw: Callable[[], Network]
    preprocess: Preprocess
    samples: int = 10
    seed: int = 0
    window: Sequence[int] | None = None
    overlap: float = 0.25
    batch: int = 1
    device: torch.device | str = "cpu"
    postprocess: Postprocess | None = None
    temperature: float = 1.0
    sequences: Sequences | None = None

    def __post_init__(self) -> None:
        if self.postprocess is not None:
            self.postprocess.check(self.preprocess)

    def scan(self, image: Image, spacing: Spacing | None = None) -> Scan:
        """Return the scan that is meant, see `data.Sequences.scan`."""
        if self.sequences is not None:
            return self.sequences.scan(image, spacing)
        if not isinstance(image, Scan):
            raise ConfigError("A predictor that does not know the sequences of its network takes scans. Pass a Scan.")
        return image

    def predict(self, image: Image, spacing: Spacing | None = None) -> Prediction:
        """Prepare a scan, predict it, and bring the result back to the scan's own grid.

        Args:
            image: a scan, an array (D, H, W) or (C, D, H, W), or a path, see `data.Image`.
            spacing: of an array, distance between voxels along each axis, in mm.

        Raises:
            ConfigError: if `samples`, `overlap` or `batch` is out of range, the window does not fit the volume, or an array comes
                without a spacing.
            DataError: if the scan cannot be read or prepared, has other channels than the network, or the network returns a NaN
                or an infinity.
        """
        scan = self.scan(image, spacing)
        prepared = self.preprocess.apply(replace(scan, label=None))
        image = prepared.image if self.window else prepared.image.to(self.device)  # windows are moved one by one
        prediction = posterior_predictive(
            self.draw, image, self.samples, self.seed, self.window, self.overlap, self.batch, self.device
        )
        found = on_scan_grid(prediction, prepared, self.preprocess, self.temperature)
        if self.postprocess is None:
            return found
        structures = self.preprocess.classes_of_structures(len(found.probability))
        return replace(found, processed=self.postprocess.apply(found.probability, structures, scan.voxel_ml))
