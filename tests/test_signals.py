"""Signals that ask a script to end."""

import os
import signal

import pytest

from pyro_dwp import signals
from pyro_dwp.signals import stop_signals

STOPS = [getattr(signal, name) for name in signals.STOPS if hasattr(signal, name)]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the clock shows, in a list of one."""
    now = [100.0]
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize("number", STOPS, ids=str)
def test_a_stop_interrupts_once_whatever_follows_in_ten_seconds_and_again_later(number, clock):
    with stop_signals() as heeded:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        for other in STOPS:
            signal.raise_signal(other)  # as a script is told while it saves
        clock[0] += 11
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    for other in STOPS:
        signal.raise_signal(other)  # as Python ends
    assert heeded == [number, signal.SIGTERM]


def test_without_a_signal_the_former_handlers_return():
    before = [signal.getsignal(each) for each in STOPS]
    with stop_signals():
        assert all(signal.getsignal(each) not in before for each in STOPS)
    assert [signal.getsignal(each) for each in STOPS] == before


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_under_nohup_a_closed_terminal_is_no_reason_to_stop(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_signals() as heeded:
            os.kill(os.getpid(), signal.SIGHUP)
        assert heeded == []
    finally:
        signal.signal(signal.SIGHUP, before)
