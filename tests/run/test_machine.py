"""Device and threads are checked before a script makes anything."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Call = Callable[..., Any]


@pytest.mark.parametrize(
    ("script", "flags"),
    [
        ("train_source", []),
        ("train_prior", ["--bank", "absent.safetensors"]),
        ("predict", ["--run", "runs/absent", "--images", "absent", "--output", "maps"]),
    ],
)
@pytest.mark.parametrize("wrong", [["--device", "gpu"], ["--device", "cuda:99"], ["--threads", "0"]], ids=" ".join)
def test_a_machine_that_is_not_there_is_refused_first(
    call: Call, tmp_path: Path, script: str, flags: list[str], wrong: list[str]
) -> None:
    done = call(tmp_path, script, *flags, *wrong)
    assert done.status == 2
    assert done.err.startswith(f"error: {wrong[0]} ")
    assert len(done.err.splitlines()) == 1, done.err
    assert not list(tmp_path.iterdir())
