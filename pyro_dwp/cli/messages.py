"""What is said of a wrong command line or config: the parser's message, made into one that names the cure.

Each rule below knows one kind of message. It returns None for the others.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from difflib import get_close_matches
from typing import Any

from pyro_dwp.cli.configs import class_arguments
from pyro_dwp.cli.names import legal_names, load_class, portable
from pyro_dwp.cli.problem import Problem, take_apart
from pyro_dwp.errors import suggest


def plain_types(text: str) -> str:
    """Name types as a person would.

    Example:
        >>> plain_types("Expected a <class 'int'>. Got value: x")
        'Expected int. Got value: x'
    """
    return re.sub(r"(?:\ban? )?<class '(?:[\w.]+\.)?(\w+)'>", r"\1", text)


@dataclass(frozen=True)
class Given:
    """What the parser was given.

    Attributes:
        sources: config file → its settings; the last one wins.
        flags: translated.
        legal: every flag that there is.
        bases: parameter → base of the class that it takes.
    """

    sources: Mapping[str, Mapping[str, Any]]
    flags: Sequence[str]
    legal: Collection[str]
    bases: Mapping[str, type]

    def has_flag(self, key: str) -> bool:
        """Return whether a flag sets a parameter or a part of it."""
        return any(re.match(rf"--{re.escape(key)}(?![\w-])", flag) for flag in self.flags)

    def place(self, problem: Problem) -> str:
        """Name the flag, or the file and key, that a problem is in; nothing where it is in none."""
        if not problem.keys:
            return ""
        dotted = ".".join(problem.keys)
        top = problem.keys[0].partition(".")[0]
        if self.has_flag(top):
            return f"--{dotted}: "
        files = [file for file, settings in self.sources.items() if top in settings] or self.sources
        return "".join(f"{part}: " for part in (", ".join(files), dotted) if part)


def explain(message: str, given: Given) -> str:
    """Turn the parser's message into one line that says what would have worked."""
    lone = (_unknown_flag, _no_value, _missing_setting, _unknown_class)
    if said := next(filter(None, (rule(message, given) for rule in lone)), None):
        return said
    problem = take_apart(message)
    rules: tuple[Callable[[Problem, Given], str | None], ...] = (
        _unknown_argument,
        _missing_argument,
        _untyped_argument,
        _wrong_type,
    )
    said = next(filter(None, (rule(problem, given) for rule in rules)), None) or _as_given(plain_types(problem.said))
    named = len(problem.keys) == 1 and given.has_flag(problem.keys[0]) and said.startswith(f"{_name(problem.target)} ")
    return said if named else given.place(problem) + said  # the class of a flag tells the flag


def _unknown_flag(message: str, given: Given) -> str | None:
    unknown = re.match(r"unrecognized arguments: (--[^\s=]+)", message)
    if not unknown:
        return None
    near = get_close_matches(unknown[1], given.legal, n=1)
    return f"There is no flag {unknown[1]}. {f'Did you mean {near[0]}? ' if near else ''}All of them: --help."


def _no_value(message: str, given: Given) -> str | None:
    alone = re.match(r"argument (--[\w.]+)\S*: expected one argument", message)
    if not alone:
        return None
    flag = next((flag for flag in given.flags if flag.startswith(alone[1]) and "=" not in flag), alone[1])
    base = given.bases.get(flag.rpartition(".")[2].lstrip("-"))
    names = legal_names(base) if base else {}
    choices = f", such as {', '.join(names)}" if names else ""
    return f"{flag} needs a value{choices}. --help explains it."


def _missing_setting(message: str, given: Given) -> str | None:
    absent = re.match(r"the following arguments are required: ([\w, ]+)", message)
    if not absent or not given.sources:
        return None
    return (
        f"{', '.join(given.sources)}: {absent[1]} missing. A config replaces the script's default settings; to keep these, "
        f"lay it over them, as in --config quick --config {[*given.sources][-1]}."
    )


def _unknown_class(message: str, given: Given) -> str | None:
    nameless = re.search(r"Expected a dot import path string: (\S+?)\.?(\s|$)", message)
    for key, _, value in (flag.removeprefix("--").partition("=") for flag in given.flags):
        base = given.bases.get(key.rpartition(".")[2])
        if nameless and base and value == nameless[1]:
            return f"--{key}: there is no {base.__name__} called {value!r}. {suggest(value, legal_names(base))}"
    return None


def _unknown_argument(problem: Problem, given: Given) -> str | None:
    refused = re.match(r"Option '([^']+)' is not accepted|unrecognized arguments: --([\w.]+)", problem.said)
    if not refused or not problem.target:
        return None
    option = (refused[1] or refused[2]).partition(".")[0]
    legal = class_arguments(load_class(problem.target))
    known = "" if legal is None else f" {suggest(option, legal)}" if legal else " It takes none."
    return f"{_name(problem.target)} has no argument {option!r}.{known}"


def _missing_argument(problem: Problem, given: Given) -> str | None:
    missing = re.match(r"the following arguments are required: ([\w, ]+)", problem.said)
    if not missing or not problem.keys:
        return None
    names, dotted = [name.strip() for name in missing[1].split(",")], ".".join(problem.keys)
    needed = " ".join(f"--{dotted}.{name} ..." for name in names)
    cure = f"Give {needed} (--{dotted}.help explains it)"
    in_list = any(
        is_dataclass(load_class(target)) for target in problem.targets
    )  # whose items have no flags of their own
    if problem.keys[0] not in given.bases or in_list:
        cure = f"Write {', '.join(f'{name}: ...' for name in names)} below its init_args"
    return f"{_name(problem.target)} cannot do without {missing[1]}. {cure}."


def _untyped_argument(problem: Problem, given: Given) -> str | None:
    untyped = re.search(r"Parameter '(\w+)' from '([\w.]+)\.__init__' does not specify a type", problem.said)
    if not untyped:
        return None
    return (
        f"the argument {untyped[1]!r} of {_as_given(untyped[2])} has no type. Give it one, as in `{untyped[1]}: float`."
    )


def _wrong_type(problem: Problem, given: Given) -> str | None:
    if problem.expected is None:
        return None
    return f"must be {_types(problem.expected)}, but received {problem.received or 'nothing'}."


def _types(text: str) -> str:
    """Name the types of an annotation.

    Example:
        >>> _types("<class 'float'>, <class 'NoneType'>")
        'float or null'
        >>> _types("typing.Literal['prior', 'random']")
        "one of 'prior', 'random'"
    """
    plain = plain_types(text).replace("NoneType", "null").replace("Sequence", "list")
    if literal := re.fullmatch(r"(?:typing\.)?Literal\[(.*)\]", plain):
        return f"one of {literal[1]}"
    depth, parts = 0, [""]
    for character in plain:
        depth += (character in "[(") - (character in "])")
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return " or ".join(part.strip() for part in parts)


def _name(path: str) -> str:
    return path.rpartition(".")[2]


def _as_given(text: str) -> str:
    """Name classes of the user's files as the user did."""
    return re.sub(r"user_file_\w+\.\w+", lambda found: str(portable(found[0])), text)
