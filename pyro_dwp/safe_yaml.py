"""Read YAML, from files of settings and from the values of flags, without surprises.

`true` and `false` are the only booleans, 1e-3 is a number, 012 and 1:1 are text (YAML 1.2). A key given twice, an alias, a tag,
and deep nesting are refused before anything is built, so that a small file cannot expand into a large structure.
"""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from pyro_dwp.checks import shorten
from pyro_dwp.errors import ConfigError
from pyro_dwp.files import read_text

MOST_BYTES = 2**20
DEEPEST = 20
PLAIN = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "int": (r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?\.(inf|Inf)|\.(nan|NaN)",
        "-+.0123456789",
    ),
}


class Loader(yaml.SafeLoader):
    """Safe YAML with the plain scalars of version 1.2, refusing a key that is given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Build a mapping whose keys all differ."""
        seen = set()
        for place, _ in node.value:
            key = self.construct_object(place, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} is given twice", problem_mark=place.start_mark)
            seen.add(key if isinstance(key, Hashable) else None)
        return super().construct_mapping(node, deep)


Loader.yaml_implicit_resolvers = {}
for name, (pattern, first) in PLAIN.items():
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{name}", re.compile(rf"(?:{pattern})\Z"), list(first))


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the settings that a YAML file holds; {} for an empty file.

    Raises:
        ConfigError: if the file is missing or unreadable, is not YAML, or holds anything but `key: value` lines.
    """
    try:
        text = read_text(path, MOST_BYTES)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as a config ({error}). Check the path.") from error
    found = parse(text, str(path))
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise ConfigError(f"{path} must hold settings as `key: value` lines, but holds {shorten(found)}.")
    return found


def parse(text: str, source: str) -> Any:
    """Return the value that a YAML text stands for.

    Args:
        text: such as "[64, 64, 24]" or "{1: 1}".
        source: file or flag that it comes from, named in an error.

    Raises:
        ConfigError: if it is not YAML, gives a key twice, has an alias or a tag, or is nested too deeply.

    Example:
        >>> parse("[1e-3, null, on, 1:1]", "--flag")
        [0.001, None, 'on', '1:1']
    """
    try:
        depth = 0
        for event in yaml.parse(text, Loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent):
                raise ConfigError(f"{source}: aliases (*{event.anchor}) are not supported. Write the value out.")
            if tag := getattr(event, "tag", None):
                raise ConfigError(f"{source}: tags ({tag}) are not supported. Write plain values.")
            if depth > DEEPEST:
                raise ConfigError(f"{source}: nested more than {DEEPEST} deep. Check the brackets.")
        return yaml.load(text, Loader)  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(
            f"{source} is not readable as YAML: {error.problem}{where}. Check indentation, brackets and colons."
        ) from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{source} is not readable as YAML: {' '.join(str(error).split())}.") from error
