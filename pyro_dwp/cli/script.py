"""Run a script's `main`: parse, build, call, and turn every foreseeable failure into one line and an exit status."""

import inspect
import os
import select
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TextIO

from pyro_dwp.cli.configs import FILE, find_config
from pyro_dwp.cli.parser import ScriptParser
from pyro_dwp.cli.runs import ACTIVE, ROOT, Invocation, latest_run, run_folder
from pyro_dwp.errors import ConfigError, PyroDwpError

BAD_INPUT = 2
INTERRUPTED = 130
BROKEN_PIPE = 141


def run_script(main: Callable[..., Any], default_config: Path | None = None, argv: Sequence[str] | None = None) -> int:
    """Call `main` with arguments from config files and the command line.

    Flags win over `--config` files, later files over earlier ones, and these over the defaults of `main`. Without
    `--config`, `default_config` is read; with `--resume` and no `--config`, the settings of the run to resume are.

    Args:
        main: the script; annotated and documented, because both make its flags.
        default_config: file that stands in for a missing `--config`; names given to `--config` are looked up beside it,
            or in the folder configs/ beside the script.
        argv: arguments; those of the process where it is None.

    Returns:
        The exit status: 0; 2 after an error of the user's input, printed in one line without a traceback; 130 after
        Ctrl-C; 141 where whoever reads the output has stopped to, as `head` does.

    Raises:
        Exception: whatever else `main` raises, a bug of its own or of a user's class; a run that had only begun is removed.
    """
    invocation = None
    try:
        parser = ScriptParser(main)
        argv = sys.argv[1:] if argv is None else argv
        files, flags = _take_configs(argv)
        script = Path(inspect.getfile(main))
        beside = default_config or script.parent / "configs" / "any.yaml"
        if "--help" in flags or "-h" in flags:
            file = _config_files(files, default_config, beside)
            print(parser.help(parser.read(file[-1]) if file else {}), flush=True)
            return 0
        flags = parser.translate(flags)
        if not files and "--resume=true" in flags:
            paths = [_run_to_resume(script.stem, flags) / FILE]
            label = ""
        else:
            paths = _config_files(files, default_config, beside)
            label = paths[-1].stem if paths else ""
        configs = {str(path): parser.read(path) for path in paths}
        if (asked := parser.class_help(configs.values(), flags)) is not None:
            print(asked, flush=True)
            return 0
        settings = parser.parse(configs, flags)
        invocation = Invocation(script, argv, parser.plain(settings), label)
        token = ACTIVE.set(invocation)
        try:
            main(**parser.build(settings))
            sys.stdout.flush()
        finally:
            ACTIVE.reset(token)
    except PyroDwpError as error:
        _discard(invocation)
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt as interrupt:
        _discard(invocation)
        print(f"\n{str(interrupt) or (invocation.advice if invocation else 'Stopped.')}", file=sys.stderr)
        return INTERRUPTED
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 0
    except Exception as error:
        _discard(invocation)
        if isinstance(error, BrokenPipeError) and _close_broken(sys.stdout):
            return BROKEN_PIPE
        raise
    return 0


def _take_configs(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate the values of `--config` from the other arguments."""
    files, rest, pending = [], [], list(arguments)
    while pending:
        token = pending.pop(0)
        if token.startswith("--config="):
            files.append(token.partition("=")[2])
        elif token == "--config":
            if not pending or pending[0].startswith("--"):
                raise ConfigError("--config needs a YAML file, or the name of one in run/configs/.")
            files.append(pending.pop(0))
        else:
            rest.append(token)
    return files, rest


def _config_files(given: Sequence[str], default: Path | None, beside: Path) -> list[Path]:
    if given:
        return [find_config(name, beside) for name in given]
    return [default] if default else []


def _run_to_resume(script: str, flags: Sequence[str]) -> Path:
    """Find the run that `--resume` means before its settings are known."""
    given = [flag.partition("=")[2] for flag in flags if flag.startswith("--name=")]
    given += [value for flag, value in pairwise(flags) if flag == "--name"]
    return run_folder(given[-1], ROOT, resume=True) if given else latest_run(script, ROOT)


def _close_broken(stream: TextIO) -> bool:
    """Return whether nobody reads a stream any more; what is written to it from now on is lost without an error."""
    try:
        ends = select.poll()
        ends.register(stream.fileno(), select.POLLOUT)
        broken = any(event & (select.POLLERR | select.POLLHUP) for _, event in ends.poll(0))
    except (AttributeError, OSError, ValueError):  # a system without poll, a stream that is no file
        return False
    if broken:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return broken


def _discard(invocation: Invocation | None) -> None:
    if invocation is not None:
        invocation.discard()
