"""What TensorBoard shows of a training: scalars of every epoch."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Logbook:
    """Writes `events.*` into the folder of a run; the file is opened at the first entry.

    Args:
        folder: of the run.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, Logbook(Path(folder)) as logbook:
        ...     logbook.scalars(1, {"train/loss": 2.0, "rate/posterior": 1e-3})
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
    def writer(self) -> "SummaryWriter":
        """TensorBoard's writer, opened at the first use."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter  # slow to import, and --help does without it

            self._writer = SummaryWriter(str(self.folder), purge_step=self.first or None)
        return self._writer

    def start(self, epoch: int) -> None:
        """Hide what an interrupted run wrote for this epoch and later ones; called before the first entry."""
        self.close()
        self.first = epoch

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write named numbers.

        Args:
            step: epoch, from 1.
            values: name → number; a name such as "train/loss" is filed under "train".
        """
        for name, value in values.items():
            if name != "epoch":
                self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
