"""Whether a class that a user names can be built where it is named; what is missing, if not."""

import importlib
import inspect
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import Any, get_type_hints

from pyro_dwp.errors import ConfigError

# Classes that a script calls with some arguments itself: base → how many, from the first. No flag sets these.
GIVEN = {"guides.base.Guide": 2}


def check_class(found: Any, base: type, name: str, where: str) -> None:
    """Refuse what is no class of the kind that is asked for, or one that cannot be built.

    Args:
        found: what the name stands for.
        base: what the class must derive from.
        name: in the user's words.
        where: key or flag that it was given for.

    Raises:
        ConfigError: if it is no class of this base, misses a method, or does not take the arguments that the script gives.
    """
    if isinstance(found, base) or base is object:
        return
    if not inspect.isclass(found):
        if not _makes(found, base):
            kind = "function" if inspect.isroutine(found) else type(found).__name__
            raise ConfigError(f"{where}: {name} is a {kind}. Name a class that derives from {public_path(base)}.")
        return
    if not issubclass(found, base):
        raise ConfigError(f"{where}: {name} is no {base.__name__}. Derive it from {public_path(base)}.")
    if inspect.isabstract(found):
        if found is base:
            raise ConfigError(f"{where}: {name} is only the base to derive from. Name a class that does.")
        missing = " It ".join(
            _missing_method(found, base, method) for method in sorted(vars(found)["__abstractmethods__"])
        )
        raise ConfigError(f"{where}: {name} {missing}")
    _check_given(found, name, where)


def given_arguments(target: Any) -> list[str]:
    """Return the arguments of a class that the script gives; no flag sets them.

    Example:
        >>> from guides import MeanField
        >>> given_arguments(MeanField)
        ['sites', 'start']
    """
    return [parameter.name for parameter in _positional(target)[: given_number(target)]]


def given_number(target: Any) -> int:
    """Return how many arguments, from the first, the script gives a class itself."""
    for parent in getattr(target, "__mro__", ()):
        if number := GIVEN.get(f"{parent.__module__}.{parent.__qualname__}"):
            return number
    return 0


def public_path(target: type) -> str:
    """Return the shortest dotted path of a class.

    Example:
        >>> from pyro_dwp.priors import PriorFamily
        >>> public_path(PriorFamily)
        'pyro_dwp.priors.PriorFamily'
    """
    parts = target.__module__.split(".")
    for length in range(1, len(parts)):
        module = importlib.import_module(".".join(parts[:length]))
        if getattr(module, target.__qualname__, None) is target:
            return f"{module.__name__}.{target.__qualname__}"
    return f"{target.__module__}.{target.__qualname__}"


def _makes(found: Any, base: type) -> bool:
    """Return whether a function says that it returns an object of a class."""
    if not callable(found):
        return False
    try:
        made = get_type_hints(found).get("return")
    except (AttributeError, NameError, TypeError):
        return False
    return inspect.isclass(made) and issubclass(made, base)


def _missing_method(found: type, base: type, method: str) -> str:
    """Say how a method is spelt, and which one may have been meant for it."""
    wanted = f"{method}({', '.join(inspect.signature(getattr(found, method)).parameters)})"
    near = get_close_matches(method, _own_methods(found, base), n=1)
    return f"misses the method `{wanted}`." + (f" Is {near[0]!r} meant to be it?" if near else "")


def _own_methods(found: type, base: type) -> Iterator[str]:
    for parent in found.__mro__[: found.__mro__.index(base)]:
        yield from (name for name, value in vars(parent).items() if inspect.isroutine(value))


def _check_given(found: type, name: str, where: str) -> None:
    """Refuse a constructor that cannot take what the script gives."""
    number = given_number(found)
    parameters = inspect.signature(found).parameters.values()
    if len(_positional(found)) < number and not any(p.kind is p.VAR_POSITIONAL for p in parameters):
        base = next(parent for parent in found.__mro__ if f"{parent.__module__}.{parent.__qualname__}" in GIVEN)
        wanted = ", ".join(["self", *given_arguments(base)])
        raise ConfigError(f"{where}: the constructor of {name} must begin `def __init__({wanted}`.")


def _positional(target: Callable[..., Any] | None) -> list[inspect.Parameter]:
    """Return the parameters that may be given by position."""
    if target is None:
        return []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [parameter for parameter in inspect.signature(target).parameters.values() if parameter.kind in kinds]
