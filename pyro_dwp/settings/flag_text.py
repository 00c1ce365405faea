"""The text of a flag: a word as it was typed, a list of words between commas, or YAML, as the setting's annotation asks for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pyro_dwp.checks import UNIONS, literals
from pyro_dwp.safe_yaml import parse
from pyro_dwp.settings.signatures import slot_of
from pyro_dwp.settings.tree import Text

LISTS = (list, tuple, Sequence)


def read_text(hint: Any, text: Text, where: str) -> Any:
    """Return the value that the text of a flag stands for: YAML, or a list as words between commas."""
    items = {item for member in members(hint) if get_origin(member) in LISTS for item in get_args(member)[:1]}
    alone = all(get_origin(member) in LISTS for member in members(hint)) and not any(map(_is_fixed, members(hint)))
    if not items or any(map(slot_of, items)) or text[:1] in ("[", "{") or is_null(text) or not ("," in text or alone):
        return parse(text, f"--{where}")
    as_typed = all(map(takes_text, items))
    return [Text(word) if as_typed else parse(word, f"--{where}") for word in map(str.strip, text.split(","))]


def takes_text(hint: Any) -> bool:
    """Tell whether the value of a flag is meant as it was typed: a string, a path or one of several words."""
    return all(member in (str, Path) or bool(literals(member)) for member in members(hint))


def members(hint: Any) -> list[Any]:
    """Return the alternatives that an annotation allows beside None, without their annotations.

    Example:
        >>> members(Annotated[list[int], "of numbers"] | int | None)
        [list[int], <class 'int'>]
    """
    parts = get_args(hint)
    if get_origin(hint) is Annotated:
        return members(parts[0])
    if get_origin(hint) in UNIONS:
        return [member for part in parts if part is not type(None) for member in members(part)]
    return [hint]


def _is_fixed(hint: Any) -> bool:
    """Tell whether an annotation is of a tuple of so many items, which one word cannot be."""
    return get_origin(hint) is tuple and Ellipsis not in get_args(hint)


def is_null(value: Any) -> bool:
    """Tell whether a setting is null, in a config or as the text of a flag."""
    return value is None or (isinstance(value, Text) and parse(value, "") is None)
