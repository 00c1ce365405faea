"""Config files: YAML in, checked key by key; the resolved config of a run out, and back in."""

import importlib.metadata
import inspect
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader

from pyro_dwp import __version__
from pyro_dwp.cli.check_class import given_arguments
from pyro_dwp.cli.names import load_class
from pyro_dwp.cli.user_file import as_given
from pyro_dwp.errors import ConfigError, DataError, suggest

FILE = "config.yaml"
PROVENANCE = "provenance"
PACKAGES = ("torch", "pyro-ppl", "monai", "numpy")
FREE = frozenset({"resume", "overwrite", "name", "device", "threads", "max_seconds"})


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file of settings; numbers such as 1e-3 are numbers.

    Raises:
        ConfigError: if the file is missing, is no YAML, or holds no mapping.
    """
    if not path.is_file():
        raise ConfigError(f"There is no config file {path}. Check the path.")
    try:
        found = get_loader("yaml")(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} is not readable as YAML: {' '.join(str(error).split())}. Check indentation, brackets and colons."
        ) from error
    if found is None or found == "":
        return {}
    if not isinstance(found, dict):
        raise ConfigError(f"{path} must hold settings as `key: value` lines, but holds {type(found).__name__}.")
    return found


def find_config(given: str, default: Path | None) -> Path:
    """Return the file that `--config` means: a path, or the bare name of a config beside the default one.

    Raises:
        ConfigError: if there is neither.
    """
    path = Path(given).expanduser()
    if path.is_file():
        return path
    beside = {file.stem: file for file in sorted(default.parent.glob("*.yaml"))} if default else {}
    if given in beside:
        return beside[given]
    raise ConfigError(f"There is no config file {given}. {suggest(given, beside) if beside else 'Check the path.'}")


def check_keys(config: Mapping[str, Any], legal: Mapping[str, set[str]], source: str) -> None:
    """Refuse keys that no parameter has, before anything is built.

    Args:
        config: with every class named by its dotted path.
        legal: prefix of keys ("" at the top, "schedule" below it) → what may stand there. Below a prefix that is not
            listed, only the arguments of classes are checked.
        source: file that the config comes from, named in an error.

    Raises:
        ConfigError: naming file, key, the legal ones and the nearest.
    """
    _refuse(config, legal[""], "", source)
    for prefix, value in config.items():
        if isinstance(value, dict):
            if prefix in legal:
                _refuse(value, legal[prefix], f"{prefix}.", source)
            _check_classes(value, prefix, source)


def _refuse(config: Mapping[str, Any], legal: set[str], prefix: str, source: str) -> None:
    for key in config:
        if key not in legal:
            raise ConfigError(f"{source}: unknown key {f'{prefix}{key}'!r}. {suggest(str(key), legal)}")


def _check_classes(value: Any, where: str, source: str) -> None:
    """Compare `init_args` with the signature of the class, at any depth."""
    if isinstance(value, list):
        for item in value:
            _check_classes(item, where, source)
    if not isinstance(value, dict):
        return
    if isinstance(value.get("class_path"), str) and isinstance(value.get("init_args"), dict):
        legal = class_arguments(load_class(value["class_path"]))
        if legal is not None:
            _refuse(
                value["init_args"],
                legal,
                f"{where}.",
                f"{source} ({as_given(value['class_path']) or value['class_path']})",
            )
    for key, child in value.items():
        _check_classes(child, where if key == "init_args" else f"{where}.{key}", source)


def class_arguments(target: Any) -> set[str] | None:
    """Return the names of a class's settings, or None where they cannot be told (`**kwargs`, no class).

    Example:
        >>> from guides import LowRank
        >>> sorted(class_arguments(LowRank))
        ['rank', 'relative_scale']
    """
    if target is None:
        return None
    parameters = inspect.signature(target).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return {parameter.name for parameter in parameters} - {*given_arguments(target)}


def load_config(folder: Path | str) -> dict[str, Any]:
    """Return the resolved settings of a run, without their provenance.

    Args:
        folder: of the run.

    Raises:
        DataError: if it holds no run.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        raise DataError(f"{folder} is not the folder of a run: it holds no {FILE}. Give a folder under runs/.")
    config = read_yaml(path)
    config.pop(PROVENANCE, None)
    return config


def first_command(folder: Path | str) -> list[str]:
    """Return the command that began a run: script and arguments.

    Raises:
        DataError: if the folder holds no run.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        raise DataError(f"{folder} is not the folder of a run: it holds no {FILE}. Give a folder under runs/.")
    return shlex.split(read_yaml(path)[PROVENANCE][0]["command"])


def write_config(folder: Path, config: Mapping[str, Any], script: Path, argv: Sequence[str]) -> None:
    """Write a run's resolved settings, followed by one entry of provenance for each time it was started."""
    path = folder / FILE
    starts = read_yaml(path).get(PROVENANCE, []) if path.exists() else []
    entry = {
        "command": shlex.join([script.name, *argv]),
        "started": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "git_revision": git_revision(script.parent),
        "python": sys.version.split()[0],
        "versions": {"pyro-dwp": __version__, **{name: _version(name) for name in PACKAGES}},
    }
    write_text(path, yaml.safe_dump({**config, PROVENANCE: [*starts, entry]}, sort_keys=False, allow_unicode=True))


def write_text(path: Path, text: str) -> None:
    """Write a file in one step, so that no reader meets half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".tmp")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


def differences(stored: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """List the settings in which a resumed run would differ from itself; a schedule may grow longer.

    Example:
        >>> differences({"seed": 1, "schedule": {"epochs": 5}}, {"seed": 2, "schedule": {"epochs": 9}})
        ['seed: 1 in the run, 2 now']
    """
    before, now = _flat(stored), _flat(given)
    lines = []
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        grown = key.endswith(".epochs") and isinstance(old, int) and isinstance(new, int) and new > old
        if old != new and key not in FREE and not grown:
            lines.append(f"{key}: {old} in the run, {new} now")
    return lines


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, Mapping) or not tree:
        return {prefix: tree}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def git_revision(folder: Path) -> str | None:
    """Return the commit that a folder is at, with "+changes" where files differ from it; None outside a repository."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return commit + ("+changes" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
