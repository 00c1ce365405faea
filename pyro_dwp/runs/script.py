"""Run a script's `main`: read settings, build, call, and turn every foreseeable failure into one line and an exit status."""

import inspect
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import reduce
from pathlib import Path
from typing import Any

from pyro_dwp.errors import ConfigError, PyroDwpError, suggest
from pyro_dwp.runs.folder import CONFIG, PROVENANCE, Run, read_config, run_to_resume
from pyro_dwp.safe_yaml import read_yaml
from pyro_dwp.settings import Call, Recipe, merge, resolve
from pyro_dwp.settings.help import class_help, script_help
from pyro_dwp.settings.tree import Tree, flags_tree, inside, read_flags

BAD_INPUT, INTERRUPTED, BROKEN_PIPE = 2, 130, 141


def run_script(main: Callable[..., Any], default: str | None = None, argv: Sequence[str] | None = None) -> int:
    """Call `main` with settings from config files and flags.

    Flags win over `--config` files, later files over earlier ones, and these over the defaults of `main`. Without `--config` the
    default config is read; with `--resume` and no `--config`, the settings of the run to resume. A `Run` among the arguments is
    entered as a context manager around the call.

    Args:
        main: the script's function; its annotations and its docstring define the flags.
        default: name of a config in configs/ beside the script, which is read where `--config` is missing.
        argv: arguments; None takes those of the process.

    Returns:
        The exit status: 0; 2 after bad input, which is reported in one line without a traceback; 130 after Ctrl-C; 141 if the
        reader of the output has gone.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if shown := _help_text(main, arguments, default):
            print(shown, flush=True)
            return 0
        recipe, call = script_settings(main, arguments, default)
        built = recipe.build_arguments(call)
        with next((value for value in built.values() if isinstance(value, Run)), nullcontext()):
            main(**built)
            sys.stdout.flush()
    except PyroDwpError as error:
        print(f"error: {error}".splitlines()[0], file=sys.stderr)  # Pyro adds tables of shapes
        return BAD_INPUT
    except KeyboardInterrupt as interrupt:
        print(f"\n{str(interrupt) or 'Stopped.'}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return 0


def script_settings(main: Callable[..., Any], arguments: Sequence[str], default: str | None) -> tuple[Recipe, Call]:
    """Read and check all settings of a script, as `run_script` does, and build nothing.

    Raises:
        ConfigError: if a setting is unknown, missing or does not fit; it names the file that holds the setting.
    """
    flags, script = read_flags(arguments), Path(inspect.getfile(main))
    tree = flags_tree(flag for flag in flags if flag[0] != "config")
    if tree.get("resume") is True and "config" not in dict(flags):
        folder = run_to_resume(script.stem, str(tree["name"]) if "name" in tree else None)
        files = {folder / CONFIG: read_config(folder)}
    else:
        files = read_configs(script, flags, default)
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
    return resolve(main, merge(tree, flags))


def _help_text(main: Callable[..., Any], words: Sequence[str], default: str | None) -> str:
    """Return the help that a command line asks for, by --help or --KEY.help CLASS; "" if it does not ask."""
    flags = read_flags(["--help" if word == "-h" else word for word in words])
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
    """Read the files of --config: paths, or bare names of those in configs/ beside the script.

    Without such a flag it reads the config named by `default`; None reads none.

    Raises:
        ConfigError: if there is no such file, or it does not hold settings.
    """
    names = [value for flag, value in flags if flag == "config"] or ([default] if default else [])
    beside = {path.stem: path for path in sorted((script.parent / "configs").glob("*.yaml"))}
    found = {}
    for name in names:
        if not isinstance(name, str):
            raise ConfigError("--config needs a YAML file, or the name of one in run/configs/.")
        path = Path(name).expanduser()
        if not path.is_file() and name not in beside:
            raise ConfigError(f"There is no config {name}. {suggest(name, beside)}")
        path = path if path.is_file() else beside[name]
        tree = {key: value for key, value in read_yaml(path).items() if key != PROVENANCE}
        found[path] = _beside(tree, path.parent)
    return found


def _beside(value: Any, folder: Path) -> Any:
    """Return settings in which file.py:Class is absolute where the file lies beside the config."""
    if isinstance(value, str) and ".py:" in value and (folder / value.rpartition(":")[0]).is_file():
        return str((folder / value).absolute())
    return inside(value, lambda item: _beside(item, folder))
