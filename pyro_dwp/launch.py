"""Imported first by a script, for what must be right before anything else is imported.

Ctrl-C while libraries load ends the script at once and without a traceback; `run_script` takes over the signal later. A folder of
the user's that hides one of this project's packages is reported in one line, before it leads to an ImportError elsewhere.
"""

import importlib.metadata
import signal
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path


def hidden_packages() -> list[str]:
    """Return a line for each package of this project that another folder or file hides."""
    root, lines = Path(__file__).parents[1], []
    with suppress(importlib.metadata.PackageNotFoundError):
        packages = importlib.metadata.distribution("pyro-dwp").read_text("top_level.txt") or ""
        for name in packages.split():
            spec = find_spec(name)
            places = list(spec.submodule_search_locations or [spec.origin or ""]) if spec else []
            if places and Path(places[0]).resolve() != (root / name).resolve():
                lines.append(
                    f"{places[0]} hides the package {name!r} of pyro_dwp. Rename it, or take its folder off PYTHONPATH."
                )
    return lines


if "pytest" not in sys.modules:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if hidden := hidden_packages():
        print(f"error: {hidden[0]}", file=sys.stderr)
        sys.exit(2)
