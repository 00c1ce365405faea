"""What TensorBoard shows of a training: the numbers of every epoch, the scores at the end, and the settings.

Each entry is appended at once and whole. TensorBoard's own writer does so in a thread, where a full disk goes unnoticed.
"""

import io
import os
import socket
import textwrap
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pyro_dwp.files import writing

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event


class Logbook:
    """Writes `events.*` into the folder of a run; the file is made at the first entry.

    Args:
        folder: of the run.
        settings: text file that TensorBoard shows as "settings", such as the run's config; None shows none.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Logbook(Path(folder)).scalars(1, {"train/loss": 2.0, "rate/posterior": 1e-3})
        ...     len(list(Path(folder).glob("events.*")))
        1
    """

    def __init__(self, folder: Path, settings: Path | None = None) -> None:
        name = f"events.out.tfevents.{time.time():017.6f}.{socket.gethostname()}.{os.getpid()}"
        self.path, self.settings, self.first = Path(folder) / name, settings, 0

    def start(self, epoch: int) -> None:
        """Hide what an interrupted run wrote for this epoch and later ones; called before the first entry."""
        self.first = epoch

    def scalars(self, step: int, values: Mapping[str, float | None]) -> None:
        """Write named numbers.

        Args:
            step: epoch, from 1.
            values: name → number, or None for one that is not known; a name such as "train/loss" is filed under "train".

        Raises:
            WriteError: if the file cannot be written; it then holds what it held before.
        """
        from tensorboard.compat.proto.event_pb2 import Event  # slow to import, and --help does without it
        from tensorboard.compat.proto.summary_pb2 import Summary

        known = {name: value for name, value in values.items() if value is not None and name != "epoch"}
        summary = Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in known.items()])
        opening = () if self.path.exists() else self._opening()
        append(self.path, [*opening, Event(step=step, wall_time=time.time(), summary=summary)])

    def scores(self, step: int, part: str, means: Mapping[str, float | None]) -> None:
        """Write the mean scores of a run.

        Args:
            step: last epoch.
            part: that was scored, such as "test", under which they are filed.
            means: score → mean, None where no case has it.
        """
        self.scalars(step, {f"{part}/{name}": mean for name, mean in means.items()})

    def _opening(self) -> Iterable["Event"]:
        """Yield the events that a file begins with: the format, what it hides of earlier files, the settings."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from torch.utils.tensorboard.summary import text

        yield Event(wall_time=time.time(), step=self.first, file_version="brain.Event:2")
        if self.first:
            yield Event(wall_time=time.time(), step=self.first, session_log=SessionLog(status=SessionLog.START))
        if self.settings is not None:
            shown = textwrap.indent(self.settings.read_text(encoding="utf-8"), "    ")  # a block of code in Markdown
            yield Event(wall_time=time.time(), summary=text("settings", shown))


def append(path: Path, events: Iterable["Event"]) -> None:
    """Append events to a file of TensorBoard: all of them or, if that fails, none.

    Args:
        path: of the file; made, with missing folders, if there is none.
        events: to append.

    Raises:
        WriteError: if the file cannot be written.
    """
    from tensorboard.summary.writer.record_writer import RecordWriter

    content = io.BytesIO()
    for event in events:
        RecordWriter(content).write(event.SerializeToString())
    with writing(path):
        size = path.stat().st_size if path.exists() else 0
        try:
            with path.open("ab") as file:
                file.write(content.getvalue())
        except BaseException:
            with suppress(OSError):
                path.unlink() if size == 0 else os.truncate(path, size)
            raise
