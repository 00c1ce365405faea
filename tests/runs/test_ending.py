"""How a script ends: one line for what can be foreseen, a traceback for a bug."""

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import torch
from pyro import poutine

from pyro_dwp.errors import ConfigError
from pyro_dwp.runs.ending import exit_status


def fail(error: BaseException) -> Callable[[], NoReturn]:
    """Return a function that raises an error."""

    def work() -> NoReturn:
        raise error

    return work


GREEDY = {
    "torch on a CPU": lambda: torch.empty(2**50),
    "numpy": lambda: np.ones(2**50),
    "Python": fail(MemoryError()),
    "torch on a GPU": fail(
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has 1 GiB.\nMore")
    ),
    "a CUDA library": fail(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")),
}


@pytest.mark.parametrize("work", GREEDY.values(), ids=GREEDY)
def test_too_little_memory_is_one_line_with_cures(work, capsys):
    assert exit_status(work) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: Memory ran out (")
    assert error.count("\n") == 1
    assert all(cure in error for cure in ("patch", "batch_size", "spacing", "--resume"))


def test_what_was_asked_for_is_said_where_it_is_known(capsys):
    exit_status(GREEDY["torch on a GPU"])
    assert "20.00 MiB more" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_log_file_on_a_full_disk_is_one_line(monkeypatch, capsys):
    with open("/dev/full", "w") as full:  # every write of it fails with ENOSPC
        monkeypatch.setattr(sys, "stdout", full)
        assert exit_status(lambda: print("epoch 1/2", flush=True)) == 2
    assert (
        capsys.readouterr().err == "error: The output cannot be written (No space left on device). Free some space.\n"
    )


def test_a_file_of_another_library_that_has_no_space_is_named(capsys):
    assert exit_status(fail(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "cache.bin"))) == 2
    assert "error: cache.bin cannot be written (No space left on device)" in capsys.readouterr().err


@pytest.mark.parametrize("bug", [RuntimeError("shapes differ"), KeyError("a"), FileNotFoundError(errno.ENOENT, "x")])
def test_a_bug_keeps_its_traceback(bug):
    with pytest.raises(type(bug)):
        exit_status(fail(bug))


def test_the_table_of_shapes_that_pyro_adds_to_an_error_is_not_shown(capsys):
    def prior() -> None:
        raise ConfigError("The prior does not fit.")

    assert exit_status(lambda: poutine.trace(prior).get_trace()) == 2
    assert capsys.readouterr().err == "error: The prior does not fit.\n"


def test_good_and_bad_ends_have_their_status(capsys):
    assert exit_status(lambda: None) == 0
    assert exit_status(fail(ConfigError("Rule."))) == 2
    assert exit_status(fail(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "error: Rule.\n\nStopped.\n"
