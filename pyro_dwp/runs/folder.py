"""The folder of a run: begun once, never overwritten unasked, found again on `--resume`."""

import itertools
import os
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from pyro_dwp.errors import ConfigError, DataError, Interrupted, WriteError, suggest
from pyro_dwp.files import read_json, write_text
from pyro_dwp.runs.provenance import provenance
from pyro_dwp.safe_yaml import read_yaml
from pyro_dwp.settings import Call

ROOT = Path("runs")
CONFIG = "config.yaml"
PROVENANCE = "provenance"
RESULTS = ("metrics.json", "networks/*.safetensors", "*.nii.gz", "bank.safetensors", "prior.safetensors")
FREE = frozenset(
    {"resume", "overwrite", "name", "device", "threads", "rank_timeout", "verbose"}
)  # a resumed run may change these


class Run:
    """The folder that a script writes its results to.

    Whatever prevents a run is found when this object is built; the folder is made by `begin`. As a context manager it removes a
    new folder again if the script fails with nothing to keep.

    Args:
        call: of the script.
        name: name of the folder under runs/; null takes the script's name and the next number.
        resume: continue the run of this name or, without a name, the latest one of this script.
        overwrite: delete the run of this name first.
    """

    def __init__(self, call: Call, name: str | None = None, resume: bool = False, overwrite: bool = False) -> None:
        self.call, self.name, self.folder, self.resumed, self.new = call, name, ROOT / (name or ""), resume, False
        if resume and overwrite:
            raise ConfigError("--resume continues a run and --overwrite deletes it. Give one of them.")
        if overwrite and name is None:
            raise ConfigError("--overwrite deletes a run. Say which with --name.")
        check_place(name)
        if resume:
            self.folder = run_to_resume(call.script.stem, name)
            if changed := differences(read_config(self.folder), call.settings):
                cure = "Leave these out (--resume reads the run's own), or begin a new run under another --name."
                raise ConfigError(f"{self.folder} cannot be resumed with other settings: {'; '.join(changed)}. {cure}")
        elif name and self.folder.is_dir() and any(path.name[0] != "." for path in self.folder.iterdir()):
            if not (self.folder / CONFIG).exists():
                raise ConfigError(f"{self.folder} is a folder without {CONFIG}, not a run. Choose another --name.")
            if not overwrite and resumable(self.folder):
                cure = "Continue it with --resume, choose another --name, or delete it with --overwrite."
                raise ConfigError(f"{self.folder} already holds a run. {cure}")

    def begin(self) -> Path:
        """Make or reopen the folder, write the resolved settings of this call into it, and return it."""
        starts = [] if not self.resumed else read_yaml(self.folder / CONFIG).get(PROVENANCE, [])
        for leftover in self.folder.rglob(".*.*") if self.resumed else ():  # temporary file of a writer that was killed
            leftover.unlink()
        try:
            if self.name is None and not self.resumed:
                self.folder = _numbered("-".join(filter(None, (self.call.script.stem, self.call.label))))
            elif not self.resumed:
                shutil.rmtree(self.folder, ignore_errors=True)
                self.folder.mkdir(parents=True)
        except OSError as error:
            raise ConfigError(f"{self.folder} cannot be made ({error.strerror}). Choose another --name.") from error
        self.new = not self.resumed
        config = {key: value for key, value in self.call.settings.items() if key not in ("resume", "overwrite")}
        config[PROVENANCE] = [*starts, provenance(self.call)]
        write_text(self.folder / CONFIG, yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=120))
        return self.folder

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self.new and error is not None and not keeps_results(self.folder):
            shutil.rmtree(self.folder, ignore_errors=True)
        elif isinstance(error, KeyboardInterrupt) and not str(error) and (self.folder / CONFIG).exists():
            raise Interrupted(f"Stopped, but kept. Go on with {self._resume()}.")
        elif isinstance(error, WriteError) and self.folder.exists():
            raise WriteError(f"{error} What the run has kept is intact: then go on with {self._resume()}.") from error

    def _resume(self) -> str:
        return f"--resume --name {self.folder.relative_to(ROOT)}"


def check_place(name: str | None) -> None:
    """Check that a run can have this name, and that runs can be written.

    Raises:
        ConfigError: if the name leads out of runs/, or that folder cannot be written to.
    """
    if name is not None and ({"/", ".."} & {*Path(name).parts} or not 0 < len(name.strip("./")) <= 200):
        raise ConfigError(f"--name is a folder below {ROOT}/ and cannot be {name!r}.")
    place = ROOT if ROOT.exists() else Path.cwd()
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise ConfigError(f"No run can be written to {place.absolute()}. Work in a folder that you may write to.")


def resumable(folder: Path) -> bool:
    """Tell whether a run's folder holds more than its beginnings: a checkpoint, results, or runs of its own."""
    return any(folder.rglob(f"*/{CONFIG}")) or any(folder.rglob("checkpoint")) or keeps_results(folder)


def keeps_results(folder: Path) -> bool:
    """Tell whether a run's folder holds something worth keeping: a trained epoch, or a result."""
    return any(map(_trained, folder.rglob("history.json"))) or any(
        True for pattern in RESULTS for _ in folder.rglob(pattern)
    )


def _trained(path: Path) -> bool:
    """Tell whether a history has an epoch; one that cannot be read may have had."""
    try:
        return read_json(path, "the history of a training", "").get("rows") != []
    except DataError:
        return True


def run_to_resume(script: str, name: str | None) -> Path:
    """Return the folder of a run: of this name or, where it is None, the numbered one that the script began or resumed last.

    Raises:
        ConfigError: if there is none.
    """
    names = [path.parent.relative_to(ROOT).as_posix() for path in ROOT.rglob(CONFIG)]
    if name is not None and name not in names:
        raise ConfigError(f"There is no run {ROOT / name} to resume. {suggest(name, names, most=10)}")
    numbered = re.compile(re.escape(script) + r"(-.+)?-\d{3,}")
    found = [ROOT / known for known in names if known == name or (name is None and numbered.fullmatch(known))]
    if not found:
        raise ConfigError(f"There is no numbered run of {script} in {ROOT}/ to resume. Name the run with --name.")
    return max(found, key=lambda folder: (folder / CONFIG).stat().st_mtime_ns)


def read_config(folder: Path | str) -> dict[str, Any]:
    """Return the resolved settings of a run, without their provenance.

    Raises:
        DataError: if the folder holds no run.
    """
    path = Path(folder) / CONFIG
    if not path.is_file():
        raise DataError(f"{folder} is not the folder of a run: it has no {CONFIG}. Give a folder under {ROOT}/.")
    return {key: value for key, value in read_yaml(path).items() if key != PROVENANCE}


def differences(stored: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """List the settings in which a resumed run would differ from itself; a schedule may grow longer, unless it is a cosine."""
    before, now = _flat(stored), _flat(given)
    lines = []
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        where, _, name = key.rpartition(".")
        longer = name in ("epochs", "steps") and isinstance(old, int) and isinstance(new, int) and new > old
        grown = longer and now.get(f"{where}.decay") != "cosine"  # which a new length bends anew
        if old != new and key not in FREE and not grown:
            lines.append(f"{key} was {old} and is now {new}")
    return lines


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, Mapping) or not tree:
        return {prefix: tree}
    parts = (_flat(below, f"{prefix}.{key}" if prefix else str(key)) for key, below in tree.items())
    return {name: value for part in parts for name, value in part.items()}


def _numbered(label: str) -> Path:
    """Make the first free folder LABEL-001, LABEL-002, ...; two calls at the same moment get two folders."""
    ROOT.mkdir(exist_ok=True)
    for number in itertools.count(1):
        with suppress(FileExistsError):
            (folder := ROOT / f"{label}-{number:03d}").mkdir()
            return folder
    raise AssertionError  # the count has no end
