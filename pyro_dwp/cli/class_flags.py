"""Flags and settings that name a class: which class, what their order means, and what an argument of a class takes."""

import inspect
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, is_dataclass
from typing import Any, get_type_hints

from jsonargparse import Namespace

from pyro_dwp.cli.names import argument_types, class_parameters, legal_names, load_class


@dataclass
class ClassFlags:
    """The flags of one command line that name classes.

    A class is read before its arguments, wherever they stand, so `--prior.scale 1 --prior gaussian` means what
    `--prior gaussian --prior.scale 1` does. Of two classes the last one counts, and takes the place of the other with all its
    arguments: after `--prior gaussian --prior.scale 1`, `--prior laplace` means a Laplace prior without arguments.

    Attributes:
        named: key → the flags that give it a class, one class for each key.
    """

    named: dict[str, list[str]] = field(default_factory=dict)

    def add(self, key: str, value: str) -> bool:
        """Take a flag, unless its value is none of a class.

        Args:
            key: of the flag, dotted.
            value: with the name of the class written out.

        Returns:
            Whether it was taken.
        """
        key = key.replace(".init_args", "")
        if "." in key and not inspect.isclass(load_class(class_path(value) or "")):
            return False
        if self.replaces(key, value):
            self.named = {other: flags for other, flags in self.named.items() if not f"{other}.".startswith(f"{key}.")}
        self.named.setdefault(key, []).append(f"--{key}={value}")
        return True

    def replaces(self, key: str, value: str) -> bool:
        """Return whether the key has another class than this value so far."""
        path = class_path(value)
        others = [flag_class(flag, key) for flag in self.named.get(key, [])]
        return any(path and other and not same_class(path, other) for other in others)

    @property
    def flags(self) -> list[str]:
        """Return the flags, outer classes before those that are their arguments."""
        keys = sorted(self.named, key=lambda key: key.count("."))
        return [flag for key in keys for flag in self.named[key]]


def class_path(value: Any) -> str | None:
    """Return the class that a setting names: a dotted path, a mapping with `class_path`, or the JSON of one.

    Example:
        >>> class_path('{"class_path": "guides.Point"}')
        'guides.Point'
    """
    if isinstance(value, str):
        try:
            return class_path(json.loads(value)) if value.startswith("{") else value
        except ValueError:
            return None
    return value.get("class_path") if isinstance(value, Mapping | Namespace) else None


def flag_class(flag: str, key: str) -> str | None:
    """Return the class that a translated flag gives for a key; None where it gives none."""
    prefix = next((prefix for prefix in (f"--{key}=", f"--{key}.class_path=") if flag.startswith(prefix)), None)
    return class_path(flag.removeprefix(prefix)) if prefix else None


def class_at(settings: Any, key: str) -> str | None:
    """Return the class that stands under a dotted key of settings; None where there is none.

    Example:
        >>> class_at({"guide": {"class_path": "guides.Ensemble", "init_args": {"guide": "guides.Point"}}}, "guide.guide")
        'guides.Point'
    """
    for part in key.split("."):
        if not isinstance(settings, Mapping | Namespace):
            return None
        settings = (settings.get("init_args") or settings).get(part)
    return class_path(settings)


def same_class(path: str | None, other: str) -> bool:
    """Return whether two paths are of one class; no path is of any."""
    return path in (None, other) or (load_class(str(path)) or path) is load_class(other)


def argument_class(bases: Mapping[str, type], key: str, used: Iterable[str] = ()) -> type | None:
    """Return what a dotted key takes: the base of a class, or a dataclass; None where it takes neither.

    Args:
        bases: parameter of the script → base.
        key: the first part is a parameter, the others are arguments of classes.
        used: dotted paths of classes that may take the arguments, besides those with a short name.

    Example:
        >>> from guides import Guide
        >>> argument_class({"guide": Guide}, "guide.guide").__name__
        'Guide'
    """
    first, *parts = key.replace(".init_args", "").split(".")
    found = bases.get(first)
    for part in parts:
        owners = [*used, *(legal_names(found).values() if found else ())]
        found = next(filter(None, (_takes(load_class(owner), part) for owner in owners)), None)
    return found


def _takes(owner: Any, argument: str) -> type | None:
    """Return what an argument of a class takes."""
    try:
        hint = get_type_hints(owner.__init__).get(argument)
    except (AttributeError, NameError, TypeError):
        return None
    for part in argument_types([hint]):
        if inspect.isclass(part) and is_dataclass(part):
            return part

    def taker() -> None: ...

    taker.__annotations__[argument] = hint
    return class_parameters(taker).get(argument) if hint is not None else None
