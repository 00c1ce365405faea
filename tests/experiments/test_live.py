"""What is shown while an experiment runs: a table in a terminal, a line now and then elsewhere."""

import io

import pytest
from rich.console import Console
from rich.live import Live

from pyro_dwp.experiments import Local, Progress
from pyro_dwp.experiments import live as live_module
from pyro_dwp.experiments.live import Display


class Clock:
    """Stands in for the module `time`."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(live_module, "time", clock := Clock())
    return clock


@pytest.fixture
def progress(plan):
    """One job that has failed, one that has run for 30 seconds, two left."""
    found = Progress.of(plan(splits=2))
    found.failed[found.jobs[0]], found.running[found.jobs[1]] = "it failed", 70.0
    return found


def test_a_line_is_printed_on_a_change_at_most_every_ten_seconds(progress, clock, capsys):
    display = Display(Local(cores=2), 60.0)
    for second in range(25):
        clock.now = 100.0 + second
        progress.running[progress.jobs[1]] = clock.now - 30
        if second == 3:
            progress.done.add(progress.jobs[2])
        display.show(progress)
    assert capsys.readouterr().out.splitlines() == [
        "0 of 4 jobs done, 1 running, 2 left, 1 failed; time to go: 75 s",
        "1 of 4 jobs done, 1 running, 1 left, 1 failed; time to go: 60 s",
    ]


def test_a_terminal_shows_what_runs_for_how_long_and_of_how_much(progress, clock):
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with Live(console=console, auto_refresh=False) as live:
        Display(Local(cores=2), 60.0, live).show(progress)
        live.refresh()
    shown = console.file.getvalue()
    assert progress.jobs[1].name in shown
    assert "30 s" in shown
    assert "time to go: 75 s" in shown
