"""What is shown of a training: a progress bar in a terminal, occasional lines in a log file."""

import time
from collections.abc import Iterable, Mapping

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

LINE_EVERY = 10.0


def describe(values: Mapping[str, float]) -> str:
    """Return named numbers as one line, with four significant digits each.

    Example:
        >>> describe({"loss": 12.34567, "dice": 0.5})
        'loss 12.35  dice 0.5'
    """
    return "  ".join(f"{name} {value:.4g}" for name, value in values.items())


class Bar(Progress):
    """A progress bar with lines of numbers below it, which wrap in a narrow terminal."""

    lines: tuple[str, ...] = ()

    def get_renderables(self) -> Iterable[RenderableType]:
        """Yield the bar, then the lines."""
        yield from super().get_renderables()
        yield from map(Text, self.lines)


class Display:
    """Show the progress of a training on standard output.

    In a terminal: epoch, bar and the longest time left; below them the loss with its parts, and the last validation. Elsewhere:
    a plain line per epoch, at most one in ten seconds, and always the first and the last.

    Args:
        epochs: largest number of epochs of the training.
        batches: steps per epoch.
        done: epochs that a resumed training has already done.
        show: False shows nothing.
    """

    def __init__(self, epochs: int, batches: int, done: int = 0, show: bool = True) -> None:
        self.epochs, self.done, self.show = epochs, done, show
        console = Console()
        self.live = show and console.is_terminal
        self.bar = Bar(
            TextColumn("epoch {task.fields[epoch]} of {task.fields[epochs]}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("steps, at most"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            disable=not self.live,
        )
        self.task = self.bar.add_task(
            "training", total=epochs * batches, completed=done * batches, epoch=done + 1, epochs=epochs
        )
        self.training: dict[str, float] = {}
        self.validation: dict[str, float] = {}
        self.line = ""
        self.start, self.last_line = time.monotonic(), float("-inf")

    def __enter__(self) -> "Display":
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()
        self._print()

    def step(self, values: Mapping[str, float]) -> None:
        """Show one optimisation step: its loss and parts."""
        self.training = dict(values)
        self._refresh()
        self.bar.advance(self.task)

    def epoch(self, number: int, training: Mapping[str, float], validation: Mapping[str, float]) -> None:
        """Show a finished epoch.

        Args:
            number: of the epoch, from 1.
            training: means of the training values.
            validation: values of the validation; {} if there was none.
        """
        self.training, self.validation = dict(training), dict(validation) or self.validation
        self._refresh()
        self.bar.update(self.task, epoch=min(number + 1, self.epochs))
        now = time.monotonic()
        left = (now - self.start) / (number - self.done) * (self.epochs - number)
        self.line = "  ".join([f"epoch {number}/{self.epochs}", *self._lines(), f"at most {left:.0f} s left"])
        if now - self.last_line >= LINE_EVERY:
            self.last_line = now
            self._print()

    def _print(self) -> None:
        if self.line and self.show and not self.live:
            print(self.line, flush=True)
        self.line = ""

    def _refresh(self) -> None:
        self.bar.lines = self._lines()

    def _lines(self) -> tuple[str, ...]:
        validation = (f"validation: {describe(self.validation)}",) if self.validation else ()
        return (f"training: {describe(self.training)}", *validation)
