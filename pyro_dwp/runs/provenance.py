"""Where a result comes from: command, time, git revision, versions."""

import importlib.metadata
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pyro_dwp.settings import Call
from pyro_dwp.train.ranks import launched

PACKAGES = ("pyro-dwp", "torch", "pyro-ppl", "numpy", "scipy")


def provenance(call: Call) -> dict[str, Any]:
    """Return what is recorded about one start of a script, as JSON-able values."""
    return {
        "command": shlex.join([call.script.name, *call.arguments]),
        "started": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "processes": launched(),
        "git_revision": git_revision(call.script.parent),
        "python": sys.version.split()[0],
        "versions": {package: importlib.metadata.version(package) for package in PACKAGES},
    }


def git_revision(folder: Path) -> str | None:
    """Return the commit that a folder is at, with "+changes" where files differ from it; None outside a repository."""
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+changes"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
