"""Layers of settings, from files and flags, become one plain tree.

A class is set by its name, `prior: gaussian`, or by a mapping of name and arguments, `prior: {class: gaussian, scale: 0.1}`;
`--prior gaussian --prior.scale 0.1` says the same. A later layer wins. A class that replaces another drops its arguments.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Any

from pyro_dwp.errors import ConfigError

Tree = dict[str, Any]
CLASS = "class"
PLACEHOLDER = "@"  # begins a path that an experiment fills in: "@JOB/FILE", a result of one of its jobs


class Text(str):
    """The value of a flag as it was typed; its type is known where it is used."""


def merge(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> Tree:
    """Return one layer of settings with another on top, which wins; neither is changed.

    Example:
        >>> merge({"prior": {"class": "gaussian", "scale": 1}, "seed": 0}, {"prior": "laplace", "seed": 1})
        {'prior': 'laplace', 'seed': 1}
        >>> merge({"prior": "gaussian"}, {"prior": {"scale": 1}})
        {'prior': {'class': 'gaussian', 'scale': 1}}
    """
    return {**lower, **{key: _combine(lower.get(key), value) for key, value in upper.items()}}


def _combine(lower: Any, upper: Any) -> Any:
    if isinstance(upper, str) and is_settings(lower):
        return lower if lower.get(CLASS) == upper else upper
    if not is_settings(upper):
        return upper
    if isinstance(lower, str):
        lower = {CLASS: lower}
    if not is_settings(lower) or (CLASS in upper and upper[CLASS] != lower.get(CLASS, upper[CLASS])):
        return upper
    return merge(lower, upper)


def is_settings(value: Any) -> bool:
    """Tell whether a value is a mapping of settings, and not a plain mapping such as {1: 2}."""
    return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)


def inside(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return a value with each item of a list, tuple or mapping changed; any other value as it is."""
    if isinstance(value, list | tuple):
        return type(value)(map(change, value))
    return {key: change(item) for key, item in value.items()} if isinstance(value, Mapping) else value


def read_flags(words: Sequence[str], positional: Sequence[str] = ()) -> list[tuple[str, Text | bool]]:
    """Return flags without their dashes, each with its value or, where there is none, True.

    Args:
        words: of a command line.
        positional: settings that the words before the first flag give, in order.

    Raises:
        ConfigError: if a word is neither a flag nor the value of one.

    Example:
        >>> read_flags(["scans", "--seed", "1"], positional=["folder"])
        [('folder', 'scans'), ('seed', '1')]
    """
    leading = list(takewhile(lambda word: not word.startswith("--"), words))[: len(positional)]
    found: list[tuple[str, Text | bool]] = [(name, Text(word)) for name, word in zip(positional, leading, strict=False)]
    for word in words[len(leading) :]:
        if word.startswith("--"):
            flag, equals, value = word[2:].partition("=")
            found.append((flag, Text(value) if equals else True))
        elif found and found[-1][1] is True:
            found[-1] = found[-1][0], Text(word)
        else:
            first = f" Before the first flag goes {' '.join(positional).upper()}." if positional else ""
            raise ConfigError(
                f"{word!r} is neither a flag (--name) nor the value of one. A list is a,b or, in quotes, '[a, b]'.{first}"
            )
    return found


def flags_tree(flags: Iterable[tuple[str, Text | bool]]) -> Tree:
    """Return flags as a tree of settings.

    The class of a setting may come before or after its arguments. Of two classes the last wins, and drops the arguments that
    were given for the first.

    Example:
        >>> flags_tree(read_flags(["--prior.scale", "0.1", "--prior", "gaussian"]))
        {'prior': {'scale': '0.1', 'class': 'gaussian'}}
    """
    tree: Tree = {}
    for flag, value in flags:
        *parents, last = flag.split(".")
        node = tree
        for part in parents:
            below = node.get(part, {})
            node[part] = node = dict(below) if is_settings(below) else {CLASS: below}
        if isinstance(value, Text) and is_settings(node.get(last)):
            replaced = node[last].get(CLASS, value) != value
            node[last] = {CLASS: value} if replaced else {**node[last], CLASS: value}
        else:
            node[last] = value
    return tree
