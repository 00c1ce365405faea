"""Look at the arguments of a script that another one is going to run, long before it does."""

import runpy
from collections.abc import Mapping, Sequence
from pathlib import Path

from pyro_dwp.cli.parser import ScriptParser
from pyro_dwp.errors import ConfigError


def check_arguments(script: Path, arguments: Sequence[str], given: Mapping[str, str], where: str) -> None:
    """Refuse what the script would refuse when it starts, and what the caller gives itself.

    Args:
        script: its `main` is parsed for, not called.
        arguments: flags and values, in the user's words.
        given: flag → value that the caller adds to them.
        where: setting that the arguments come from, for the message.

    Raises:
        ConfigError: if a flag, a class or a value is none of the script's, or a flag is given by both.
    """
    if twice := [flag for flag in given if flag in {argument.partition("=")[0] for argument in arguments}]:
        raise ConfigError(f"{where}: {', '.join(twice)} is set for all alike. Leave it out here.")
    parser = ScriptParser(runpy.run_path(str(script))["main"])
    added = [text for flag, value in given.items() for text in (flag, value)]
    try:
        parser.parse({}, parser.translate([*added, *arguments]))
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
