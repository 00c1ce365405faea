"""What is shown of a training: a bar in a terminal or notebook, a line per epoch in a log file."""

import time
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console
from rich.progress import BarColumn, TextColumn

from pyro_dwp.progress import Bar
from pyro_dwp.train.history import Row
from pyro_dwp.train.pace import Pace, duration

LINE_EVERY = 10.0


def describe(values: Mapping[str, float]) -> str:
    """Return named numbers as one line, with four significant digits each.

    Example:
        >>> describe({"loss": 12.34567, "dice": 0.5})
        'loss 12.35  dice 0.5'
    """
    return "  ".join(f"{name} {value:.4g}" for name, value in values.items())


def number(value: float) -> str:
    """Return a number with three significant digits, and no exponent where it is large.

    Example:
        >>> number(0.41234), number(-30142.7)
        ('0.412', '-30,143')
    """
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e12 else f"{value:.3g}"


MONITORED: dict[str, tuple[str, Callable[..., float], Callable[[float], str]]] = {
    "dice": ("Dice", max, "{:.2f}".format),
    "loss": ("loss", min, number),
}


def progress(rows: Sequence[Row]) -> str:
    """Return how well a training goes: the loss, the last validation, and the best one with its epoch.

    Args:
        rows: of its history, at least one.

    Example:
        >>> progress([{"epoch": 1, "train/loss": 0.5, "validation/dice": 0.72}, {"epoch": 2, "train/loss": 0.4123}])
        'loss 0.412  validation Dice 0.72 (best 0.72, epoch 1)'
    """
    words = [f"loss {number(rows[-1]['train/loss'])}"]
    for score, (name, best_of, written) in MONITORED.items():
        found = {row["epoch"]: row[f"validation/{score}"] for row in rows if f"validation/{score}" in row}
        if found:
            last, best = list(found)[-1], best_of(found, key=found.__getitem__)
            words.append(f"validation {name} {written(found[last])} (best {written(found[best])}, epoch {best:.0f})")
            break
    return "  ".join(words)


class Display:
    """Show the progress of a training on standard output.

    In a terminal or notebook: epoch, bar, step and the time left; below them the loss and the validation. Elsewhere: a plain line
    per epoch, at most one in ten seconds, and always the first and the last.

    Args:
        epochs: largest number of epochs of the training.
        batches: steps per epoch.
        rows: of the history, to which the training appends; not empty where one is resumed.
        show: False shows nothing.
        verbose: show the parts of the loss, too.
    """

    def __init__(
        self, epochs: int, batches: int, rows: Sequence[Row], show: bool = True, verbose: bool = False
    ) -> None:
        self.epochs, self.rows, self.show, self.verbose = epochs, rows, show, verbose
        self.pace = Pace(epochs - len(rows), batches)
        console = Console()
        self.live = show and (console.is_terminal or console.is_jupyter)
        columns = ("epoch {task.fields[epoch]}/{task.fields[epochs]}", "{task.fields[left]}")
        self.bar = Bar(
            TextColumn(columns[0]),
            BarColumn(bar_width=30),
            TextColumn(columns[1]),
            console=console,
            disable=not self.live,
        )
        done = len(rows)
        self.task = self.bar.add_task(
            "", total=epochs * batches, completed=done * batches, epoch=min(done + 1, epochs), epochs=epochs, left=""
        )
        self.line, self.last_line = "", float("-inf")
        if done:
            self.say(f"Goes on after epoch {done}.")

    def __enter__(self) -> "Display":
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()
        self._print()

    def say(self, text: str) -> None:
        """Print a sentence between the lines."""
        self._print()
        if self.show:
            print(text, flush=True)

    def step(self) -> None:
        """Show that a step has ended."""
        self.pace.step()
        self.bar.update(self.task, advance=1, left=self._left())

    def epoch(self) -> None:
        """Show the last row of the history, the epoch that has ended."""
        row, count = self.rows[-1], len(self.rows)
        self.pace.epoch("validation/loss" in row)
        self.bar.update(self.task, epoch=min(count + 1, self.epochs), left=self._left())
        self.bar.lines = (progress(self.rows), *([parts(row)] if self.verbose else []))
        self.line = "  ".join(filter(None, [f"epoch {count}/{self.epochs}", *self.bar.lines, self._left()]))
        if time.monotonic() - self.last_line >= LINE_EVERY:
            self.last_line = time.monotonic()
            self._print()

    def _left(self) -> str:
        seconds = self.pace.left()
        return f"about {duration(seconds)} left" if seconds and self.pace.steps else ""

    def _print(self) -> None:
        if self.line and self.show and not self.live:
            print(self.line, flush=True)
        self.line = ""


def parts(row: Row) -> str:
    """Return the parts of the training loss of an epoch, such as data term and KL divergence.

    Example:
        >>> parts({"epoch": 1, "train/loss": 3.0, "train/data": -2.0, "train/kl": 100.0, "rate/posterior": 1e-3})
        'data -2  kl 100'
    """
    return describe({name[6:]: value for name, value in row.items() if name[:6] == "train/" and name != "train/loss"})
