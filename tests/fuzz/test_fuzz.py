"""A small part of the fuzz in every run of the tests, and the whole of it on request."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.session import all_kinds

ROOT = Path(__file__).parents[2]


def fuzz(inputs: int, kinds: str) -> subprocess.CompletedProcess[str]:
    """Run the fuzz in a process of its own: it forks, which wants a process without threads."""
    words = ["--inputs", str(inputs), "--kinds", kinds, "--workers", "2"]
    return subprocess.run([sys.executable, "-m", "tests.fuzz", *words], cwd=ROOT, capture_output=True, text=True)


def test_damaged_files_are_read_right_or_refused_clearly():
    done = fuzz(60, "images,labels,stacks,detached,arrays,priors,banks,networks,splits,patients,folders,layouts")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_two_thousand_inputs_of_every_kind_are_read_right_or_refused_clearly():
    done = fuzz(2000, ",".join(all_kinds()))
    assert done.returncode == 0, done.stdout + done.stderr
