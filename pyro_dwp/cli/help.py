"""The text of `--help`: every flag, and below it every class that has a short name with its arguments."""

import argparse
import inspect
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any

from jsonargparse import ArgumentParser, DefaultHelpFormatter

from pyro_dwp.cli.check_class import given_number, public_path
from pyro_dwp.cli.class_flags import argument_class, class_at, flag_class
from pyro_dwp.cli.messages import plain_types
from pyro_dwp.cli.names import RELATIVES, legal_names, load_class, portable, resolve
from pyro_dwp.errors import ConfigError


class HelpFormatter(argparse.RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Keeps the lines of the description, and leaves out the endless list of classes that torch knows."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = super()._get_help_string(action) or ""
        return re.sub(r", known subclasses: .*\)$", ")", text, flags=re.DOTALL)

    def _split_lines(self, text: str, width: int) -> list[str]:
        """Wrap each line of a help text by itself, so that a list stays a list; continued lines are indented."""
        lines = [
            textwrap.wrap(line.strip(), width, subsequent_indent="    " * (n > 0))
            for n, line in enumerate(text.split("\n"))
        ]
        return [part for line in lines for part in line]

    def _expand_help(self, action: argparse.Action) -> str:
        return plain_types(super()._expand_help(action))


def one_line_each(names: Mapping[str, str]) -> str:
    """Return a list of classes, each with the first line of its docstring.

    Args:
        names: short name → dotted path.

    Example:
        >>> print(one_line_each({"unet": "pyro_dwp.nn.UNet"}))
        unet: Residual U-Net without biases; the defaults are the paper's network.
        or a class of your own: package.module.Class or file.py:Class
    """
    lines = [
        f"{name}: {(inspect.getdoc(load_class(path)) or '').partition(chr(10))[0]}" for name, path in names.items()
    ]
    lines += [also for package, also in RELATIVES.items() if all(path.startswith(package) for path in names.values())]
    return "\n".join([*lines, "or a class of your own: package.module.Class or file.py:Class"])


class ClassParser(ArgumentParser):
    """Knows, wherever a class is met, which of its arguments the script gives: they are no settings and need no types."""

    def add_class_arguments(self, theclass: Any, *args: Any, **kwargs: Any) -> Any:
        """Add the settings of a class, as jsonargparse does."""
        skip = set(kwargs.pop("skip", None) or ())
        if not any(isinstance(item, int) for item in skip) and (number := given_number(theclass)):
            skip.add(number)
        return super().add_class_arguments(theclass, *args, skip=skip, **kwargs)


def class_help(key: str, name: str, path: str) -> str:
    """Describe the arguments of a class as flags below `--KEY`; nothing if it takes none.

    Args:
        key: flag that takes the class.
        name: in the user's words.
        path: dotted path of the class.
    """
    parser = ClassParser(add_help=False, formatter_class=HelpFormatter, exit_on_error=False)
    parser.add_class_arguments(load_class(path), key)
    text = parser.format_help()
    start = text.find(f"  --{key}.")
    return f"--{key} {name}\n{text[start:]}" if start >= 0 else ""


def asked_help(bases: Mapping[str, type], configs: Sequence[Any], flags: Sequence[str]) -> str | None:
    """Return what a flag `--KEY.help CLASS` asks for; without a class, the one that would be used and the names of others.

    Args:
        bases: parameter of the script → base of the class that it takes.
        configs: settings, later ones before earlier ones.
        flags: translated; they win over settings.

    Returns:
        The help; None where no flag asks for that of a class.

    Raises:
        ConfigError: if the key takes no class.
    """
    asked = next(filter(None, (re.fullmatch(r"--(([\w]+)[\w.]*)\.help(?:=(.*))?", flag) for flag in flags)), None)
    if asked is None or asked[2] not in bases:
        return None
    key, name = asked[1], asked[3]
    above = [flag_class(flag, asked[2]) for flag in flags] + [class_at(config, asked[2]) for config in configs]
    base = argument_class(bases, key, [*filter(None, above)])
    if base is None:
        raise ConfigError(f"--{key}.help: {key.rpartition('.')[2]!r} takes no class. All flags: --help.")
    if is_dataclass(base):
        text = class_help(key, "", public_path(base)).partition("\n")[2].replace(f"--{key}.", "")
        fields = re.sub(r"^  \S+\.help .*\n(?: {8,}.*\n)*", "", text, flags=re.MULTILINE)
        return f"--{key} takes items with these fields, as in '[{{FIELD: value, FIELD: value}}]':\n{fields}"
    given = [*(class_at(config, key) for config in configs), *(flag_class(flag, key) for flag in flags)]
    path = resolve(name, base, f"--{key}.help") if name else next(filter(None, reversed(given)), None)
    parts = [_described(key, path, base)] if path else []
    if not name:
        parts += [f"--{key} takes one of these, and --{key}.help NAME explains it:", one_line_each(legal_names(base))]
    return "\n".join(parts)


def _described(key: str, path: str, base: type) -> str:
    """Return name, first line and settings of a class."""
    names = legal_names(base).items()
    name = next((short for short, known in names if load_class(known) is load_class(path)), str(portable(path)))
    line = (inspect.getdoc(load_class(path)) or "").partition("\n")[0]
    settings = class_help(key, name, path).partition("\n")[2] or "  It takes no settings.\n"
    return f"--{key} {name}\n{line}\n{settings}"
