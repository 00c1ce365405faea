"""The folder of a run: made once, never overwritten unasked, found again on `--resume`."""

import json
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyro_dwp.cli.configs import FILE, differences, load_config, write_config, write_text
from pyro_dwp.errors import ConfigError, suggest

ROOT = Path("runs")
RESULTS = ("*.safetensors", "metrics.json", "*.nii.gz")


@dataclass
class Invocation:
    """One call of a script: what it was asked to do, and the folder that it began.

    Args:
        script: file of the script.
        argv: its arguments, as given.
        config: resolved settings.
        label: of the config file, e.g. "quick"; empty where there is none.
        begun: folder that this call has made, None while there is none.
        folder: that this call works in, made or reopened; None while there is none.
    """

    script: Path
    argv: Sequence[str]
    config: dict[str, Any]
    label: str
    begun: Path | None = None
    folder: Path | None = None

    @property
    def advice(self) -> str:
        """What to tell a user who stopped this call."""
        if self.folder is None or not resumable(self.folder):
            return "Stopped."
        name = self.config.get("name") or self.folder.name
        return f"Stopped. {self.folder} keeps what was trained; continue with --resume --name {name}."

    def discard(self) -> None:
        """Remove the folder that this call made, where it failed before there was anything to keep."""
        if self.begun is not None and not holds_results(self.begun):
            shutil.rmtree(self.begun, ignore_errors=True)
            with suppress(OSError):
                self.begun.parent.rmdir()


def resumable(folder: Path) -> bool:
    """Return whether a run's folder has what its continuation begins with: a checkpoint, or a run of its own inside."""
    return any(folder.rglob("checkpoint")) or any(path.parent != folder for path in folder.rglob(FILE))


def holds_results(folder: Path) -> bool:
    """Return whether a run's folder has more than its beginnings: what was trained, measured or predicted."""
    return resumable(folder) or any(path for pattern in RESULTS for path in folder.rglob(pattern))


ACTIVE: ContextVar[Invocation | None] = ContextVar("ACTIVE", default=None)


def begin_run(
    script: str, name: str | None, resume: bool = False, overwrite: bool = False, root: Path | str = ROOT
) -> Path:
    """Make or reopen the folder of a run, and write the resolved config of this call into it.

    Without a name, a new run is numbered (`svi_target-quick-001`), so that calling a script twice keeps both results;
    `resume` without a name continues the latest one.

    Args:
        script: name of the script, which numbered names begin with.
        name: of the folder under `root`; None numbers it.
        resume: continue a run; its settings must be the ones of this call, but epochs may grow.
        overwrite: delete the run of this name first.
        root: folder of all runs.

    Returns:
        The folder, which exists.

    Raises:
        ConfigError: if the name is taken, there is nothing to resume, or the settings of the run to resume differ.
    """
    invocation = ACTIVE.get()
    if name is None and overwrite:
        raise ConfigError("--overwrite deletes a run, so it needs --name to say which.")
    label = "-".join(part for part in (script, invocation.label if invocation else "") if part)
    if name is None:
        folder = latest_run(label, root) if resume else _numbered(label, Path(root))
        new = not resume
    else:
        folder, new = run_folder(name, root, resume, overwrite), not resume
    if invocation is None:
        return folder
    invocation.begun, invocation.folder = folder if new else None, folder
    if resume and (folder / FILE).exists():
        changed = differences(load_config(folder), invocation.config)
        if changed:
            raise ConfigError(
                f"{folder} cannot be resumed with other settings:\n  " + "\n  ".join(changed) + "\nLeave the settings "
                "out (--resume reads them from the run), or begin a new run under another --name."
            )
    kept = {key: value for key, value in invocation.config.items() if key not in ("resume", "overwrite")}
    write_config(folder, kept, invocation.script, invocation.argv)
    return folder


def run_folder(name: str, root: Path | str = ROOT, resume: bool = False, overwrite: bool = False) -> Path:
    """Return the folder of a named run, made where it is new.

    Args:
        name: of the run, a path below `root`.
        root: folder of all runs.
        resume: the folder must be there.
        overwrite: whatever run is there is deleted; a folder that holds no run is not.

    Raises:
        ConfigError: if a run of that name is there already (and neither flag is set) or is missing (`resume`).
    """
    folder = Path(root) / name
    if Path(name).is_absolute() or ".." in Path(name).parts or not name.strip("./"):
        raise ConfigError(f"--name is a folder below {root}/ and cannot be {name!r}.")
    if resume and overwrite:
        raise ConfigError("--resume continues a run and --overwrite deletes it; give one of them.")
    if resume:
        if not folder.is_dir():
            raise ConfigError(f"There is no run {folder} to resume. {suggest(name, _runs(Path(root)), most=10)}")
        return folder
    if folder.is_dir() and any(folder.iterdir()):
        if not overwrite:
            raise ConfigError(
                f"{folder} already holds a run. Continue it with --resume, choose another --name, or delete it with "
                "--overwrite."
            )
        if not (folder / FILE).exists():
            raise ConfigError(
                f"{folder} holds no {FILE}, so it is not a run and is not deleted. Choose another --name."
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def latest_run(script: str, root: Path | str = ROOT) -> Path:
    """Return the numbered run of a script that was begun or resumed last.

    Raises:
        ConfigError: if there is none.
    """
    pattern = re.compile(re.escape(script) + r"(-.+)?-\d{3,}")
    runs = [Path(root) / name for name in _runs(Path(root)) if pattern.fullmatch(name)]
    if not runs:
        raise ConfigError(f"There is no numbered run of {script} in {root}/ to resume. Name the run with --name.")
    return max(runs, key=lambda folder: (folder / FILE).stat().st_mtime_ns)


def write_json(path: Path | str, content: Any) -> None:
    """Write a JSON file in one step, indented; tensors and paths have to be turned into numbers and strings before."""
    write_text(Path(path), json.dumps(content, indent=2) + "\n")


def _numbered(label: str, root: Path) -> Path:
    """Make the first free folder LABEL-001, LABEL-002, ...; two calls at the same moment get two folders."""
    root.mkdir(parents=True, exist_ok=True)
    found = [re.fullmatch(re.escape(label) + r"-(\d{3,})", path.name) for path in root.iterdir()]
    number = max((int(match[1]) for match in found if match), default=0) + 1
    while True:
        folder = root / f"{label}-{number:03d}"
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder


def _runs(root: Path) -> list[str]:
    return [path.parent.relative_to(root).as_posix() for path in root.glob(f"**/{FILE}")] if root.is_dir() else []
