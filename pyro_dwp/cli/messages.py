"""What is said of a wrong command line or config: the parser's message, made into one that names the cure.

Each rule below knows one message of the parser. It returns None for the others.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from pyro_dwp.cli.configs import class_arguments
from pyro_dwp.cli.names import legal_names, load_class
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
        sources: config files, the last one wins.
        flags: translated.
        legal: every flag that there is.
        bases: parameter → base of the class that it takes.
    """

    sources: Sequence[str]
    flags: Sequence[str]
    legal: Collection[str]
    bases: Mapping[str, type]


def explain(message: str, given: Given) -> str:
    """Turn the parser's message into one line that says what would have worked."""
    rules = (_unknown_flag, _unknown_argument, _missing_argument, _missing_setting, _unknown_class)
    return next(filter(None, (rule(message, given) for rule in rules)), None) or _otherwise(message, given)


def _unknown_flag(message: str, given: Given) -> str | None:
    unknown = re.match(r"unrecognized arguments: (--[^\s=]+)", message)
    if not unknown:
        return None
    near = get_close_matches(unknown[1], given.legal, n=1)
    return f"There is no flag {unknown[1]}. {f'Did you mean {near[0]}? ' if near else ''}All of them: --help."


def _unknown_argument(message: str, given: Given) -> str | None:
    refused = re.search(r".*class_path '([^']+)':.*Option '([^']+)' is not accepted", message, flags=re.DOTALL)
    called = re.search(r"Option '([^']+)' is not accepted\. Got value: Namespace\(class_path='([^']+)'", message)
    name, option = (refused[1], refused[2]) if refused else (called[2], called[1]) if called else ("", "")
    legal = class_arguments(load_class(name))
    if legal is None:
        return None
    return f"{name.rpartition('.')[2]} has no argument {option!r}. {suggest(option, legal)}"


def _missing_argument(message: str, given: Given) -> str | None:
    missing = re.search(r"class_path '([^']+)':\s*the following arguments are required: ([\w, ]+)", message)
    if not missing:
        return None
    key = next((key for key, base in given.bases.items() if missing[1] in legal_names(base).values()), "KEY")
    needed = " ".join(f"--{key}.{argument.strip()} ..." for argument in missing[2].split(","))
    return f"{missing[1].rpartition('.')[2]} cannot do without {missing[2]}. Give {needed} (--{key}.help explains it)."


def _missing_setting(message: str, given: Given) -> str | None:
    absent = re.match(r"the following arguments are required: ([\w, ]+)", message)
    if not absent or not given.sources:
        return None
    return (
        f"{', '.join(given.sources)}: {absent[1]} missing. A config replaces the script's default settings; to keep these, "
        f"lay it over them, as in --config quick --config {given.sources[-1]}."
    )


def _unknown_class(message: str, given: Given) -> str | None:
    nameless = re.search(r"Expected a dot import path string: (\S+?)\.?(\s|$)", message)
    for key, _, value in (flag.removeprefix("--").partition("=") for flag in given.flags):
        base = given.bases.get(key.rpartition(".")[2])
        if nameless and base and value == nameless[1]:
            return f"--{key}: there is no {base.__name__} called {value!r}. {suggest(value, legal_names(base))}"
    return None


def _otherwise(message: str, given: Given) -> str:
    place = re.match(r'Parser key "([^"]+)"', message)
    in_files = place and given.sources and not any(flag.startswith(f"--{place[1]}") for flag in given.flags)
    message = re.sub(r'Parser key "([^"]+)":\s*', r"\1: ", message)
    line = " ".join(plain_types(message).split())
    return (f"{', '.join(given.sources)}: " if in_files else "") + line
