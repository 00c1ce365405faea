"""What TensorBoard shows of a training: scalars of every epoch, and slices with truth and prediction over them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

Image = npt.NDArray[np.uint8]

TRUTH = (0, 200, 90)
PREDICTION = (255, 90, 60)


class Logbook:
    """Writes `events.*` into the folder of a run; the file is opened at the first entry.

    Args:
        folder: of the run.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, Logbook(Path(folder)) as logbook:
        ...     logbook.scalars(1, {"train/loss": 2.0, "rate/theta": 1e-3})
        ...     len(list(Path(folder).glob("events.*")))
        1
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.first = Path(folder), 0
        self._writer: SummaryWriter | None = None

    def __enter__(self) -> "Logbook":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def writer(self) -> SummaryWriter:
        """The writer behind it, opened when first asked for."""
        if self._writer is None:
            self._writer = SummaryWriter(str(self.folder), purge_step=self.first or None)
        return self._writer

    def start(self, epoch: int) -> None:
        """Hide what an interrupted run wrote for this epoch and later ones; called before the first entry."""
        self.close()
        self.first = epoch

    def scalars(self, step: int, values: Mapping[str, float], prefix: str = "") -> None:
        """Write named numbers.

        Args:
            step: epoch, from 1.
            values: name → number; a name such as "train/loss" is filed under "train".
            prefix: put before each name, with a slash.
        """
        for name, value in values.items():
            if name != "epoch":
                self.writer.add_scalar(f"{prefix}/{name}" if prefix else name, value, step)

    def slices(
        self, step: int, name: str, image: Tensor, truth: Tensor | None = None, prediction: Tensor | None = None
    ) -> None:
        """Write the axial slice with most foreground, with the outlines of truth (green) and prediction (red).

        Args:
            step: epoch, from 1.
            name: of the picture, e.g. the case.
            image: (C, D, H, W); the first channel is shown. The last axis is the one that is cut.
            truth: classes, (D, H, W), int64.
            prediction: classes, (D, H, W), int64.
        """
        self.writer.add_image(name, overlay(image, truth, prediction), step, dataformats="HWC")

    def close(self) -> None:
        """Flush and close the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def overlay(image: Tensor, truth: Tensor | None = None, prediction: Tensor | None = None) -> Image:
    """Return one axial slice in grey with coloured outlines, (H', W', 3) uint8.

    The slice is the one with most foreground of truth and prediction together, or the middle one where there is none.

    Args:
        image: (C, D, H, W); grey runs from the 1st to the 99th percentile of the slice's first channel.
        truth: classes, (D, H, W).
        prediction: classes, (D, H, W).
    """
    masks = [
        (mask.detach().cpu() > 0, colour)
        for mask, colour in ((truth, TRUTH), (prediction, PREDICTION))
        if mask is not None
    ]
    area = sum((mask.sum((0, 1)) for mask, _ in masks), torch.zeros(image.shape[-1]))
    index = int(area.argmax()) if area.any() else image.shape[-1] // 2
    plane = image[0, :, :, index].detach().cpu().float()
    low, high = plane.quantile(0.01), plane.quantile(0.99)
    grey = ((plane - low) / (high - low).clamp_min(1e-6)).clamp(0, 1) * 255
    picture: Image = grey.to(torch.uint8).unsqueeze(-1).expand(-1, -1, 3).numpy().copy()
    for mask, colour in masks:
        picture[outline(mask[:, :, index].numpy())] = colour
    return np.ascontiguousarray(np.rot90(picture))


def outline(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the pixels of a mask that touch a pixel outside it, by an edge.

    Example:
        >>> outline(np.ones((3, 3), dtype=bool)).astype(int).tolist()
        [[1, 1, 1], [1, 0, 1], [1, 1, 1]]
    """
    padded = np.pad(mask, 1)
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inside
