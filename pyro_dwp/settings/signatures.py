"""What the annotations of a script, a class or a function say of its settings.

    main(prior: Prior, guide: Callable[[Sites], Guide], schedule: Schedule, seed: int)

`prior` takes a class with its arguments and receives an object; `guide` receives a function that makes the object later, from the
arguments that the annotation lists; `schedule` is a dataclass, which needs no name; `seed` is a plain value. The arguments of a
parameter annotated `Annotated[Machine, Flat()]` are settings without a prefix, beside the others.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pyro_dwp.checks import UNIONS, hints_of, is_plain
from pyro_dwp.errors import ConfigError, suggest
from pyro_dwp.settings.classes import Offers, find_class, offered, public_path
from pyro_dwp.settings.tree import Tree

FUNCTION = get_origin(Callable[[], None])
MISSING = inspect.Parameter.empty
Mark = TypeVar("Mark")


class Flat:
    """In an annotation of a class: its arguments are settings without a prefix, and no name chooses another class."""


class Positional:
    """In an annotation of a script's argument: a word before the first flag gives it, the first word the first such argument."""


@dataclass(frozen=True)
class InsteadOf:
    """In an annotation of a setting that may be None: a layer that sets it unsets another, and the other way round."""

    other: str  # which may be None, too


@dataclass(frozen=True)
class Call:
    """How a script was called; a parameter of this type is filled by whoever runs the script, not by a setting."""

    script: Path  # file of the script
    arguments: tuple[str, ...]  # of the command line
    settings: Tree  # all of them, resolved
    label: str = ""  # of the config, such as "quick"


@dataclass(frozen=True)
class Slot:
    """What a parameter takes if that is a class with its arguments."""

    base: type  # what the class derives from; a dataclass, and what is flat, stands for itself
    given: int = 0  # arguments, from the first, that come from the caller and not from settings
    later: bool = False  # the parameter receives a function that builds the object
    flat: bool = False  # the arguments are settings without a prefix
    optional: bool = False  # None may take the object's place
    package: str | None = None  # that gives the short names; None takes the one that declares the base

    @property
    def nameless(self) -> bool:
        """Whether no name of a class is needed."""
        return self.flat or is_dataclass(self.base)

    def target(self, name: object, where: str) -> Any:
        """Return the class that a name stands for."""
        if name is not None:
            return find_class(str(name), self.base, where, self.package)
        if is_dataclass(self.base):
            return self.base
        raise ConfigError(f"{where} needs the name of a class. {suggest('', offered(self.base, self.package))}")


def slot_of(hint: Any) -> Slot | None:
    """Return the slot that an annotation describes: a class, a class or None, or a function that returns an object."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        found = slot_of(parts[0])
        package = next((mark.package for mark in parts[1:] if isinstance(mark, Offers)), None)
        flat = any(isinstance(mark, Flat) for mark in parts[1:])
        return found and replace(found, flat=flat, package=package or found.package)
    if origin in UNIONS:
        found = next(filter(None, map(slot_of, parts)), None)
        return found and replace(found, optional=type(None) in parts)
    if origin is FUNCTION:
        made = slot_of(parts[-1])
        given = len(parts[0]) if isinstance(parts[0], list) else 0
        return made and replace(made, given=given, later=True)
    if inspect.isclass(hint) and origin is None and not is_plain(hint) and hint is not object:
        return Slot(hint)
    return None


@lru_cache(maxsize=1024)
def parameters_of(target: Any, given: int = 0) -> tuple[tuple[str, Any, Any], ...]:
    """Return name, annotation and default (`MISSING` where there is none) of each setting of a class or function.

    The first `given` arguments are not settings; ConfigError is raised if it takes fewer.
    """
    hints = hints_of(target.__init__ if inspect.isclass(target) else target)
    found = list(inspect.signature(target).parameters.values())
    named = [it for it in found if it.kind in (it.POSITIONAL_OR_KEYWORD, it.KEYWORD_ONLY)]
    if len(named) < given and len(named) == len(found):
        raise ConfigError(f"{public_path(target)} is called with {given} argument(s), but takes {len(named)}.")
    return tuple((it.name, hints.get(it.name, Any), it.default) for it in named[given:])


def marks_of(hint: Any, kind: type[Mark]) -> list[Mark]:
    """Return the marks of this kind in an annotation, such as `Annotated[Path, Positional()]`."""
    return [mark for mark in getattr(hint, "__metadata__", ()) if isinstance(mark, kind)]


def positional_names(target: Any) -> list[str]:
    """Return the arguments of a script that words without a flag give."""
    return [name for name, hint, _ in parameters_of(target) if marks_of(hint, Positional)]


@lru_cache(maxsize=1024)
def setting_names(target: Any, given: int = 0) -> tuple[str, ...]:
    """Return the names of the settings of a class or function whose first `given` arguments come from its caller."""
    names: list[str] = []
    for name, hint, _ in parameters_of(target, given):
        if (slot := slot_of(hint)) and slot.flat:
            names += setting_names(slot.base, slot.given)
        elif hint is not Call:
            names.append(name)
    return tuple(names)
