"""The text of `--help`: every flag, and below it every class that has a short name with its arguments."""

import argparse
import inspect
import re
import textwrap
from collections.abc import Mapping
from typing import Any, get_args

from jsonargparse import ArgumentParser, DefaultHelpFormatter

from pyro_dwp.cli.messages import plain_types
from pyro_dwp.cli.names import RELATIVES, load_class


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


def class_help(key: str, name: str, path: str, hint: Any) -> str:
    """Describe the arguments of a class as flags below `--KEY`; nothing if it takes none.

    Args:
        key: flag that takes the class.
        name: short name of the class.
        path: dotted path of the class.
        hint: annotation of the parameter; the arguments of a `Callable` are given by the script and left out.
    """
    given = get_args(hint)[0] if get_args(hint) and isinstance(get_args(hint)[0], list) else []
    parser = ArgumentParser(add_help=False, formatter_class=HelpFormatter, exit_on_error=False)
    parser.add_class_arguments(load_class(path), key, skip={len(given)} if given else None)
    text = parser.format_help()
    start = text.find(f"  --{key}.")
    return f"--{key} {name}\n{text[start:]}" if start >= 0 else ""
