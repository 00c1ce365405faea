"""From a scan to its prediction on the scan's own grid.

Axis letters: C channels or classes, D H W voxels of the scan, d h w voxels of the network's grid.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from pyro_dwp.data import Image, Prepared, Preprocess, Scan, Sequences, Spacing
from pyro_dwp.errors import ConfigError
from pyro_dwp.metrics import entropy, tempered
from pyro_dwp.nn.windows import Network
from pyro_dwp.predict.posterior import Prediction, posterior_predictive, seeded
from pyro_dwp.predict.postprocess import Postprocess

KEPT = 10  # networks that are kept for the next scan; a step of `mean_field` holds eight times the weights, with Adam's moments
VOLUMES = 32  # times one channel of an image that a prediction may take on a GPU


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

    Every scan sees the same networks. Up to 10 of them are drawn with the first scan and kept; more are drawn again for each
    scan, so that memory does not grow with their number. A posterior that has been trained further needs a new predictor.

    Args:
        draw: returns one sampled network, see `posterior_predictive`.
        preprocess: as in training.
        samples: posterior samples S, 1 to 10,000.
        seed: of the samples.
        window: edges of a sliding window on the network's grid, voxels; None for the whole volume at once.
        overlap: share of a window's edge that it has in common with its neighbour.
        batch: windows per pass through a network; None takes as many as are fastest.
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
    batch: int | None = None
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
        draw = self.draw if self.samples > KEPT else iter(self._networks).__next__
        how = self.samples, self.seed, self.window, self.overlap, self.batch, self.device
        prediction = posterior_predictive(draw, self._placed(prepared.image), *how)
        found = on_scan_grid(prediction, prepared, self.preprocess, self.temperature)
        if self.postprocess is None:
            return found
        structures = self.preprocess.classes_of_structures(len(found.probability))
        return replace(found, processed=self.postprocess.apply(found.probability, structures, scan.voxel_ml))

    @cached_property
    def _networks(self) -> list[Network]:
        """All networks, as `posterior_predictive` would draw them."""
        with seeded(self.seed, torch.device(self.device)), torch.no_grad():
            return [self.draw() for _ in range(self.samples)]

    def _placed(self, image: Tensor) -> Tensor:
        """Return an image where its sums are kept: on the device, or on the CPU if a GPU cannot hold them beside a window."""
        device = torch.device(self.device)
        if self.window is not None and device.type == "cuda":
            sums = VOLUMES * image[0].numel() * image.element_size()
            return image.to(device) if sums < torch.cuda.mem_get_info(device)[0] else image
        return image.to(device)
