"""Progress in a notebook, where rich's own bars would need ipywidgets."""

import io
import sys
from types import ModuleType
from typing import Any

import pytest
from rich.console import Console

from pyro_dwp import progress
from pyro_dwp.progress import Bar, track


class Output:
    """Stands for the output of a cell: the pictures of the bar that it has shown, one in place of the other."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def update(self, bar: Bar) -> None:
        console = Console(file=io.StringIO(), width=100, force_jupyter=False)
        console.print(bar)
        self.shown.append(console.file.getvalue())  # type: ignore[attr-defined]


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> Output:
    """Pretend to be in a notebook without ipywidgets."""
    found, module = Output(), ModuleType("IPython.display")

    def display(bar: Bar, display_id: bool) -> Output:
        assert display_id
        found.update(bar)
        return found

    module.display = display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    console = Console(file=io.StringIO(), force_jupyter=True)
    monkeypatch.setattr(progress, "get_console", lambda: console)
    return found


def test_a_notebook_shows_one_output_that_ends_at_all_items(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.0)
    assert list(track(iter("abcd"), "scans", 4)) == ["a", "b", "c", "d"]
    shares = [text.split("%")[0].split()[-1] for text in output.shown if "%" in text]
    assert list(dict.fromkeys(shares)) == ["0", "25", "50", "75", "100"]


def test_pictures_are_few_but_the_last_state_is_shown(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([i / 100 for i in range(10_000)])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    bar = Bar()
    with bar:
        task = bar.add_task("steps", total=100)
        for _ in range(100):
            bar.update(task, advance=1)
        bar.lines = ("loss 0.5",)
    assert len(output.shown) < 30
    assert "100%" in output.shown[-1]
    assert "loss 0.5" in output.shown[-1]


def test_a_bar_that_is_switched_off_shows_nothing(output: Output, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track([1, 2], "scans", disable=True)) == [1, 2]
    assert not output.shown


def test_in_a_terminal_it_is_richs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    file: Any = io.StringIO()
    console = Console(file=file, force_terminal=True, width=80)
    monkeypatch.setattr(progress, "get_console", lambda: console)
    assert list(track([1, 2], "scans")) == [1, 2]
    assert "100%" in file.getvalue()
