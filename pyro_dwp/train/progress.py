"""What a person sees of a training: a bar in a terminal, a line now and then in a log file."""

import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_EVERY = 10.0


def describe(values: Mapping[str, float]) -> str:
    """Write numbers in one line, four significant digits each.

    Example:
        >>> describe({"loss": 12.34567, "dice": 0.5})
        'loss 12.35  dice 0.5'
    """
    return "  ".join(f"{name} {value:.4g}" for name, value in values.items())


class Display:
    """Show the progress of a training on standard output.

    In a terminal: epoch, bar, loss with its parts, validation values and the longest time left. Elsewhere: a plain
    line per epoch, but at most one in ten seconds, and always the first and the last.

    Args:
        epochs: longest training, in epochs.
        batches: steps per epoch.
        done: epochs already behind a resumed training.
        show: False shows nothing.
    """

    def __init__(self, epochs: int, batches: int, done: int = 0, show: bool = True) -> None:
        self.epochs, self.batches, self.show = epochs, batches, show
        self.console = Console()
        self.live = show and self.console.is_terminal
        self.bar = Progress(
            TextColumn("epoch"),
            TextColumn("{task.fields[epoch]}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("steps  at most"),
            TimeRemainingColumn(),
            TextColumn("left  {task.fields[values]}"),
            console=self.console,
            disable=not self.live,
        )
        self.task = self.bar.add_task(
            "training", total=epochs * batches, completed=done * batches, epoch=done + 1, values=""
        )
        self.training: dict[str, float] = {}
        self.validation: dict[str, float] = {}
        self.first, self.start, self.last_line = done + 1, time.monotonic(), float("-inf")
        self.done = done

    def __enter__(self) -> "Display":
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def step(self, values: Mapping[str, float]) -> None:
        """Show one optimisation step: its loss and parts."""
        self.training = dict(values)
        self.bar.update(self.task, advance=1, values=self._text())

    def epoch(self, number: int, training: Mapping[str, float], validation: Mapping[str, float]) -> None:
        """Show a finished epoch: means of the training values, and the validation's, if there was one."""
        self.training = dict(training)
        self.validation = {f"validation {name}": value for name, value in validation.items()} or self.validation
        self.bar.update(self.task, epoch=min(number + 1, self.epochs), values=self._text())
        now = time.monotonic()
        if self.show and not self.live and (now - self.last_line >= LINE_EVERY or number == self.epochs):
            self.last_line = now
            left = (now - self.start) / (number - self.done) * (self.epochs - number)
            print(f"epoch {number}/{self.epochs}  {self._text()}  at most {left:.0f} s left", flush=True)

    def _text(self) -> str:
        return describe(self.training | self.validation)
