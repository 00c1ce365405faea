"""Progress bars for terminals and notebooks; in a notebook, rich's own would show nothing without ipywidgets."""

import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from rich import get_console
from rich.console import Console, RenderableType
from rich.progress import Progress, ProgressColumn
from rich.text import Text

EVERY = 0.2  # seconds, at least, from one picture of the bar to the next in a notebook

Item = TypeVar("Item")


class Bar(Progress):
    """A progress bar with lines of text below it, which wrap in a narrow terminal; in a notebook, an output that changes.

    Args:
        columns: of the bar; none takes rich's.
        console: to show it on; None takes rich's.
        transient: whether it vanishes from a terminal when it is done.
        disable: whether to show nothing.
    """

    lines: tuple[str, ...] = ()

    def __init__(
        self,
        *columns: ProgressColumn,
        console: Console | None = None,
        transient: bool = False,
        disable: bool = False,
    ) -> None:
        console = console or get_console()
        own = console.is_jupyter
        super().__init__(*columns, console=console, auto_refresh=not own, transient=transient, disable=disable)
        self.output: Any = None  # IPython's handle on what the notebook shows
        self.drawn = float("-inf")

    def get_renderables(self) -> Iterable[RenderableType]:
        """Yield the bar, then the lines."""
        yield from super().get_renderables()
        yield from map(Text, self.lines)

    def start(self) -> None:
        """Show the bar."""
        if self.console.is_jupyter and not self.disable:
            from IPython.display import display

            self.output = display(self, display_id=True)
        else:
            super().start()

    def stop(self) -> None:
        """Show the bar as it is at the end."""
        if self.output is None:
            super().stop()
        else:
            self.output.update(self)

    def refresh(self) -> None:
        """Show the bar as it is now."""
        if self.output is None:
            super().refresh()
        elif time.monotonic() - self.drawn >= EVERY:
            self.drawn = time.monotonic()
            self.output.update(self)

    def update(self, *task: Any, **changes: Any) -> None:
        """Change a task, see rich; a terminal shows it soon, a notebook at once."""
        super().update(*task, **changes)
        if self.output is not None:
            self.refresh()


def track(
    items: Iterable[Item], what: str, total: int | None = None, transient: bool = False, disable: bool = False
) -> Iterator[Item]:
    """Yield items, and show how many of them are done.

    Args:
        items: to yield.
        what: they are, in a word or two.
        total: number of items; None takes their length.
        transient: whether the bar vanishes from a terminal when they are done.
        disable: whether to show nothing.
    """
    with Bar(transient=transient, disable=disable) as bar:
        yield from bar.track(items, total, description=what)
