"""Run a script's `main`: read settings, build, call."""

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import reduce
from pathlib import Path
from typing import Any

from pyro_dwp.errors import ConfigError, suggest
from pyro_dwp.runs.ending import exit_status
from pyro_dwp.runs.folder import CONFIG, PROVENANCE, Run, read_config, run_to_resume
from pyro_dwp.safe_yaml import read_yaml
from pyro_dwp.settings import Call, Recipe, Tree, merge, positional_names, resolve, without_alternatives
from pyro_dwp.settings.help import class_help, script_help
from pyro_dwp.settings.tree import PLACEHOLDER, flags_tree, inside, read_flags
from pyro_dwp.train.ranks import Ranks, launched

PROPOSAL = Path("proposal")  # what errors and the run's name call settings that were made of what a flag names


Propose = Callable[[Tree], tuple[Callable[[], Tree] | None, Tree]]
"""Flags → what makes the settings below every config, None for nothing, and the flags as they are to be read."""


def run_script(
    main: Callable[..., Any],
    default: str | None = None,
    argv: Sequence[str] | None = None,
    propose: Propose | None = None,
) -> int:
    """Call `main` with settings from config files and flags.

    Flags win over `--config` files, later files over earlier ones, and these over the defaults of `main`. Without `--config` the
    default config is read; with `--resume` and no `--config`, the settings of the run to resume. `Ranks` and a `Run` among the
    arguments are entered as context managers around the call; a script without `Ranks` cannot be started by torchrun.

    Args:
        main: the script's function; its annotations and its docstring define the flags.
        default: name of a config in configs/ beside the script, which is read where `--config` is missing.
        argv: arguments; None takes those of the process.
        propose: makes settings of what a flag names, such as a folder of scans, in place of the default config.

    Returns:
        The exit status, see `exit_status`.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    return exit_status(lambda: _run(main, default, arguments, propose))


def _run(main: Callable[..., Any], default: str | None, arguments: Sequence[str], propose: Propose | None) -> None:
    if shown := _help_text(main, arguments, default):
        print(shown)
        return
    recipe, call = script_settings(main, arguments, default, propose)
    check_placeholders(recipe)
    built = recipe.build_arguments(call)
    with ExitStack() as around:
        for context in _contexts(built, call):
            around.enter_context(context)
        main(**built)
        sys.stdout.flush()


def _contexts(built: Mapping[str, Any], call: Call) -> list[Ranks | Run]:
    """Return what is entered around a script's call: its ranks, then its run."""
    if launched() > 1 and not any(isinstance(value, Ranks) for value in built.values()):
        raise ConfigError(
            f"{call.script.name} runs in one process, but torchrun has started {launched()}. Start it with python."
        )
    found = [value for value in built.values() if isinstance(value, Ranks | Run)]
    return sorted(found, key=lambda value: isinstance(value, Run))


def script_settings(
    main: Callable[..., Any], arguments: Sequence[str], default: str | None, propose: Propose | None = None
) -> tuple[Recipe, Call]:
    """Read and check all settings of a script, as `run_script` does, and build nothing.

    Raises:
        ConfigError: if a setting is unknown, missing or does not fit; it names the file that holds the setting.
    """
    flags, script = read_flags(arguments, positional_names(main)), Path(inspect.getfile(main))
    tree = flags_tree(flag for flag in flags if flag[0] != "config")
    make, tree = propose(tree) if propose else (None, tree)
    if tree.get("resume") is True and "config" not in dict(flags):
        folder = run_to_resume(script.stem, str(tree["name"]) if "name" in tree else None)
        files = {folder / CONFIG: read_config(folder)}
    else:
        files = {PROPOSAL: make()} if make else {}
        files |= read_configs(script, flags, None if make else default)
    label = list(files)[-1].stem if files else ""
    return (recipe := resolve_layers(main, files, tree)), Call(script, tuple(arguments), recipe.plain(), label)


def resolve_layers(main: Callable[..., Any], files: Mapping[Path, Tree], flags: Tree) -> Recipe:
    """Check layers of settings against a script's signature; an error names the file of the setting that it is about.

    Later files win, and flags over all files.

    Raises:
        ConfigError: if a setting is unknown, missing or does not fit.
    """
    tree: Tree = {}
    for path, layer in files.items():
        tree = merge(tree, layer)
        try:
            resolve(main, tree, complete=False)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error
        tree = without_alternatives(main, tree, layer)
    tree = merge(tree, flags)
    resolve(main, tree)
    return resolve(main, without_alternatives(main, tree, flags))


def check_placeholders(value: Any, where: str = "") -> None:
    """Refuse a setting that begins with "@": it names a job of an experiment, which would have put a path there.

    Settings within a mapping of any values are not looked at: they are those of other scripts.

    Args:
        value: a recipe, or a setting of one.
        where: setting that it is.

    Raises:
        ConfigError: naming the first such setting.
    """
    if str(value).startswith(PLACEHOLDER):
        raise ConfigError(
            f"{where} is {str(value)!r}, a placeholder that an experiment fills in (run/experiment.py). Without one, give a path "
            f"of your own: --{where} PATH."
        )
    parts = value.arguments if isinstance(value, Recipe) else dict(enumerate(value)) if isinstance(value, list) else {}
    for name, part in parts.items():
        flat = isinstance(part, Recipe) and part.slot.flat
        check_placeholders(part, where if flat else f"{where}.{name}" if where else str(name))


def _help_text(main: Callable[..., Any], words: Sequence[str], default: str | None) -> str:
    """Return the help that a command line asks for, by --help or --KEY.help CLASS; "" if it does not ask."""
    flags = read_flags(["--help" if word == "-h" else word for word in words], positional_names(main))
    for flag, value in flags:
        if flag == "help":
            files = read_configs(Path(inspect.getfile(main)), flags, default)
            return script_help(main, reduce(merge, files.values(), {}))
        if flag.endswith(".help"):
            if value is True:
                raise ConfigError(f"--{flag} needs the name of a class; --help lists them.")
            return class_help(main, flag.removesuffix(".help"), str(value))
    return ""


def read_configs(script: Path, flags: Sequence[tuple[str, str | bool]], default: str | None) -> dict[Path, Tree]:
    """Read the files of --config: paths, or names of those in configs/ beside the script, such as lgg or methods/unet_ri.

    Without such a flag it reads the config named by `default`; None reads none.

    Raises:
        ConfigError: if there is no such file, or it does not hold settings.
    """
    names = [value for flag, value in flags if flag == "config"] or ([default] if default else [])
    if not all(isinstance(name, str) for name in names):
        raise ConfigError("--config needs a YAML file, or the name of one in run/configs/.")
    return dict(find_config(str(name), script.parent / "configs") for name in names)


def find_config(name: str, folder: Path) -> tuple[Path, Tree]:
    """Read a config, given by its path or by its name below a folder, such as "methods/unet_ri"; return its path and settings.

    Raises:
        ConfigError: if there is no such file, or it does not hold settings.
    """
    known = {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}
    path = Path(name).expanduser()
    if not path.is_file() and name not in known:
        raise ConfigError(f"There is no config {name}. {suggest(name, known)}")
    path = path if path.is_file() else known[name]
    return path, _beside({key: value for key, value in read_yaml(path).items() if key != PROVENANCE}, path.parent)


def _beside(value: Any, folder: Path) -> Any:
    """Return settings in which file.py:Class is absolute where the file lies beside the config."""
    if isinstance(value, str) and ".py:" in value and (folder / value.rpartition(":")[0]).is_file():
        return str((folder / value).absolute())
    return inside(value, lambda item: _beside(item, folder))
