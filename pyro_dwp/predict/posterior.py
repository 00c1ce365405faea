"""The posterior predictive distribution of a segmentation and the parts of its uncertainty, summed sample by sample.

For samples w_1 … w_S of the posterior and p_s = p(y | x, w_s) at one voxel,

    p = (1/S) Σ_s p_s                      probability: the prediction
    H(p)                                   entropy: all of the uncertainty, in nats
    H(p) - (1/S) Σ_s H(p_s)                mutual information of y and w: what more data could remove (epistemic)

Entropy is concave, so the mutual information is never negative; their difference, the mean of H(p_s), is what noise
in the labels leaves (aleatoric). Only running sums are kept, and C numbers a sample: the volumes of its classes. So the
memory does not depend on S: C + 1 maps of sums, and C of one sample.

Axis letters: C channels or classes, D H W voxels, S posterior samples.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor

from pyro_dwp.checks import checked
from pyro_dwp.errors import DataError
from pyro_dwp.metrics import entropy
from pyro_dwp.nn.windows import Network, Overlap, WindowBatch, class_probabilities

CHUNK = 2**22  # voxels that are held in float64 at a time

Samples = Annotated[int, Ge(1), Le(10_000)]


@dataclass(frozen=True)
class Prediction:
    """What is predicted for one case, on one grid.

    Args:
        probability: mean probability of each class, (C, D, H, W).
        entropy: of that mean, in nats, 0 to log C, (D, H, W).
        mutual_information: between label and weights, in nats, 0 to the entropy, (D, H, W).
        volumes: expected number of voxels of each class under each of S sampled networks, Σ_voxels p, float64, (S, C); None
            where the samples are not known.
        processed: class of each voxel after post-processing, integers, (D, H, W); None where there was none.
    """

    probability: Tensor
    entropy: Tensor
    mutual_information: Tensor
    volumes: Tensor | None = None
    processed: Tensor | None = None

    @cached_property
    def mask(self) -> Tensor:
        """The most probable class of each voxel, the lowest of equal ones, or what was made of it, (D, H, W)."""
        if self.processed is not None:
            return self.processed
        return self.probability.max(dim=0).indices  # a tenth of the time of argmax


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the random numbers of the CPU and of one device, and restore their states at the end.

    Args:
        seed: of both.
        device: CPU or a CUDA device.
    """
    cuda = [torch.cuda.current_device() if device.index is None else device.index] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.default_generator.manual_seed(seed)
        for index in cuda:
            torch.cuda.default_generators[index].manual_seed(seed)
        yield


@checked
@torch.no_grad()
def posterior_predictive(
    draw: Callable[[], Network],
    image: Tensor,
    samples: Samples,
    seed: int,
    window: Sequence[int] | None = None,
    overlap: Overlap = 0.25,
    batch: WindowBatch | None = None,
    device: torch.device | str | None = None,
) -> Prediction:
    """Average the class probabilities of `samples` networks, drawn from the posterior one after the other.

    Probabilities are averaged, not logits. Each network predicts the whole volume before the next one is drawn, so
    that windows of one volume see the same weights. The result depends only on the arguments, and the global
    random state is left as it was; every case that is predicted with one seed sees the same networks.

    Args:
        draw: takes no argument and returns one sampled network, (1, C, D, H, W) → logits (1, classes, D, H, W).
        image: (C, D, H, W).
        samples: S, 1 to 10,000. With 1 the mutual information is exactly 0.
        seed: of all draws.
        window: edges of a sliding window, voxels; None for the whole volume at once.
        overlap: fraction of a window's edge shared with its neighbour, in [0, 1).
        batch: windows per pass through the network; None takes as many as are fastest.
        device: of the networks, to which one pass at a time is moved; None if they are where the image is.

    Returns:
        The prediction on the image's grid and device.

    Raises:
        ConfigError: if `samples`, `overlap` or `batch` is out of range, or the window does not fit the volume.
        DataError: if the network returns a NaN or an infinity.

    Example:
        >>> logits = iter([torch.tensor([0.0, 100.0]), torch.tensor([100.0, 0.0])])
        >>> def draw():
        ...     sampled = next(logits)
        ...     return lambda image: sampled.reshape(1, 2, 1, 1, 1).expand(1, 2, *image.shape[2:])
        >>> prediction = posterior_predictive(draw, torch.zeros(1, 1, 1, 1), samples=2, seed=0)
        >>> prediction.probability.flatten().tolist()
        [0.5, 0.5]
        >>> prediction.mutual_information.item()
        0.6931471824645996
    """
    image = image.as_subclass(Tensor)
    place = image.device if device is None else torch.device(device)
    volumes = []
    with seeded(seed, place):
        for index in range(samples):
            probability = class_probabilities(draw(), image, window, overlap, batch, place)
            volumes.append(torch.stack([_sum(p) for p in probability]))
            if index == 0:
                mean, noise = probability, entropy(probability)
            else:
                mean += probability
                noise += entropy(probability)
            del probability
    mean /= samples
    noise /= samples
    if not all(torch.isfinite(p).all() for p in mean):
        raise DataError(
            "The prediction holds NaN or infinity. Check the image for extreme values, and that the training did not diverge."
        )
    total = entropy(mean)
    return Prediction(mean, total, torch.sub(total, noise, out=noise).clamp_min_(0), torch.stack(volumes))


def _sum(values: Tensor) -> Tensor:
    """Return the sum in float64, of which only a part of the values is held at a time."""
    return torch.stack([part.double().sum() for part in values.flatten().split(CHUNK)]).sum()
