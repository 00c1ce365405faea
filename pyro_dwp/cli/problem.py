"""The parser's message about a value, taken apart: where in the settings it is, what class is being built, what is wrong.

Such a message is nested as the settings are, each level as `Parser key "guide":` and one of the wrappings below.
"""

import re
from dataclasses import dataclass
from typing import Any

LEVEL = re.compile(r'\s*Parser key "([^"]*)"(?: element \d+)?:\s*')
CLASS = re.compile(r"\s*Problem with given class_path '([^']+)':\s*")
CALLED = re.compile(r"\s*Type [^\n]*? expects a function or a callable class: ")
UNION = re.compile(
    r"\s*Does not validate against any of the Union subtypes\s*Subtypes: \[(.*?)\]\s*Errors:\s*", re.DOTALL
)
RECEIVED = re.compile(r"\s*Given value type: .*?\n\s*Given value: (.*)", re.DOTALL)
BOUND = re.compile(r"\.? Got value: Namespace\(.*", re.DOTALL)
MISMATCH = re.compile(r"Expected an? (.+?)\. Got value: (.*)", re.DOTALL)


@dataclass(frozen=True)
class Problem:
    """What is wrong, and where.

    Attributes:
        keys: of the setting, from the top.
        said: what the parser says of it, without its place.
        targets: dotted paths of the classes that are being built, the innermost last.
        expected: types that would have been right, in the parser's words; None where the type is not what is wrong.
        received: the value of another type.
    """

    keys: tuple[str, ...]
    said: str
    targets: tuple[str, ...] = ()
    expected: str | None = None
    received: str = ""

    @property
    def target(self) -> str:
        """Return the innermost class that is being built; empty where there is none."""
        return self.targets[-1] if self.targets else ""


def take_apart(message: str) -> Problem:
    r"""Return the innermost problem that a message tells.

    Example:
        >>> found = take_apart('Parser key "prior": Problem with given class_path \'a.B\': Option \'gian\' is not accepted')
        >>> found.keys, found.target, found.said
        (('prior',), 'a.B', "Option 'gian' is not accepted")
    """
    keys: list[str] = []
    targets: list[str] = []
    rest = message
    while True:
        if level := LEVEL.match(rest):
            keys.append(level[1])
            rest = rest[level.end() :]
        elif built := CLASS.match(rest):
            targets.append(built[1])
            rest = rest[built.end() :]
        elif called := CALLED.match(rest):
            rest = rest[called.end() :]
        elif (union := UNION.match(rest)) and (inner := _within(rest[union.end() :])):
            rest = inner
        else:
            break
    if bound := BOUND.search(rest):
        targets += re.findall(r"class_path='([^']+)'", bound[0])[::-1]  # these are told from the innermost on
        rest = rest[: bound.start()]
    fields: dict[str, Any] = {"keys": tuple(keys), "said": " ".join(rest.split()), "targets": tuple(targets)}
    if union := UNION.match(rest):
        value = RECEIVED.search(rest)
        return Problem(**fields, expected=union[1], received=value[1].strip() if value else "")
    if mismatch := MISMATCH.fullmatch(rest.strip()):
        return Problem(**fields, expected=mismatch[1], received=mismatch[2])
    return Problem(**fields)


def _within(errors: str) -> str:
    """Return what is wrong with a class that is one of the types of a union; nothing where there is none."""
    lines = RECEIVED.split(errors)[0].splitlines()
    starts = [number for number, line in enumerate(lines) if line.lstrip().startswith("- ")]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        error = "\n".join(lines[start:end]).lstrip().removeprefix("- ")
        if CLASS.match(error) or CALLED.match(error):
            return error
    return ""
