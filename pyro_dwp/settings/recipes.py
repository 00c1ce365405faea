"""A plain tree of settings, checked against the signatures of what it names: a recipe, from which the objects are built.

    main(prior: Prior, guide: Callable[[Sites], Guide], schedule: Schedule, seed: int)

`prior` takes a class with its arguments and receives an object; `guide` receives a function that makes the object later, from the
arguments that the annotation lists; `schedule` is a dataclass, which needs no name; `seed` is a plain value. The arguments of a
parameter annotated `Annotated[Machine, Flat()]` are settings without a prefix, beside the others.
"""

import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, cast, get_args, get_origin

from pyro_dwp.checks import UNIONS, check_values, hints_of, is_plain, literals, shorten
from pyro_dwp.errors import ConfigError, PyroDwpError, suggest
from pyro_dwp.safe_yaml import parse
from pyro_dwp.settings.classes import Offers, find_class, offered, one_line, public_path
from pyro_dwp.settings.tree import CLASS, PLACEHOLDER, Text, Tree, inside, merge

FUNCTION = get_origin(Callable[[], None])
MISSING = inspect.Parameter.empty
CONTAINERS: dict[Any, type] = {list: list, Sequence: list, dict: dict, Mapping: dict}


class Flat:
    """In an annotation of a class: its arguments are settings without a prefix, and no name chooses another class."""


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


@dataclass(frozen=True)
class Recipe:
    """A class or function with all its arguments, checked."""

    slot: Slot  # that it fills
    target: Any  # the class or function
    arguments: dict[str, Any]  # name → plain value, recipe, or list or mapping of recipes
    where: str  # setting that it belongs to, named in an error

    def build(self, call: Call | None = None) -> Any:
        """Return the object, or a function that makes it from the arguments it still needs."""
        built = self.build_arguments(call)
        make = lambda *given, **named: self._make(given, built | named)  # noqa: E731
        return make if self.slot.later else make()

    def build_arguments(self, call: Call | None = None) -> dict[str, Any]:
        """Return name → object of all arguments that settings gave."""
        return {name: _build(value, call) for name, value in self.arguments.items()}

    def _make(self, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        try:
            return self.target(*given, **named)
        except PyroDwpError:
            raise
        except Exception as error:
            file = getattr(self.target, "__module__", "")
            if not file.endswith(".py"):
                raise
            raise ConfigError(
                f"{self.where}: {public_path(self.target)} cannot be built: {one_line(error, Path(file))}. A constructor of "
                "your own begins with super().__init__(...)."
            ) from error

    def plain(self) -> Tree:
        """Return the settings as a tree that YAML can hold and that makes the same recipe again, in any folder."""
        tree: Tree = {} if self.target is self.slot.base else {CLASS: public_path(self.target)}
        for name, value in self.arguments.items():
            if isinstance(value, Recipe) and value.slot.flat:
                tree |= value.plain()
            elif value is not Call:
                tree[name] = _plain(value)
        return tree


def _build(value: Any, call: Call | None) -> Any:
    if value is Call:
        return call
    if isinstance(value, Path):
        return Path(os.path.expandvars(value))
    return value.build(call) if isinstance(value, Recipe) else inside(value, lambda item: _build(item, call))


def _plain(value: Any) -> Any:
    if isinstance(value, Path | Text):
        return str(value)
    value = list(value) if isinstance(value, tuple) else value
    return value.plain() if isinstance(value, Recipe) else inside(value, _plain)


def _absolute(value: Any) -> Any:
    """Return a path that is valid in any working folder; one that begins with a variable or is a placeholder stays as it is."""
    if isinstance(value, Path):
        return value if str(value).startswith(("$", PLACEHOLDER)) else Path(os.path.abspath(value.expanduser()))
    return inside(value, _absolute) if isinstance(value, list) else value


def parameters_of(target: Any, given: int = 0) -> Iterator[tuple[str, Any, Any]]:
    """Yield name, annotation and default (`MISSING` where there is none) of each setting of a class or function.

    The first `given` arguments are not settings; ConfigError is raised if it takes fewer.
    """
    hints = hints_of(target.__init__ if inspect.isclass(target) else target)
    found = list(inspect.signature(target).parameters.values())
    named = [it for it in found if it.kind in (it.POSITIONAL_OR_KEYWORD, it.KEYWORD_ONLY)]
    if len(named) < given and len(named) == len(found):
        raise ConfigError(f"{public_path(target)} is called with {given} argument(s), but takes {len(named)}.")
    for parameter in named[given:]:
        yield parameter.name, hints.get(parameter.name, Any), parameter.default


def setting_names(target: Any, given: int = 0) -> list[str]:
    """Return the names of the settings of a class or function whose first `given` arguments come from its caller."""
    names = []
    for name, hint, _ in parameters_of(target, given):
        if (slot := slot_of(hint)) and slot.flat:
            names += setting_names(slot.base, slot.given)
        elif hint is not Call:
            names.append(name)
    return names


def resolve(
    target: Any, tree: Mapping[str, Any], where: str = "", slot: Slot | None = None, complete: bool = True
) -> Recipe:
    """Check a tree of settings against the signature of a class or function.

    Args:
        target: the class or function.
        tree: setting → value; missing ones take their defaults.
        where: setting that the target belongs to, such as "guide"; "" at the top.
        slot: that the target fills.
        complete: refuse a tree that lacks a setting without a default; False leaves such a setting out.

    Raises:
        ConfigError: naming the first setting that is unknown, missing or does not fit, and the nearest legal name.
    """
    slot, prefix = slot or Slot(target), f"{where}." if where else ""
    parameters = list(parameters_of(target, slot.given))
    flat = {name: found for name, hint, _ in parameters if (found := slot_of(hint)) and found.flat}
    own = {name: setting_names(it.base, it.given) for name, it in flat.items()}
    legal = setting_names(target, slot.given)
    if unknown := next((key for key in tree if key not in legal), None):
        below = {
            key: f"{n}.{key}" for n, hint, _ in parameters if is_dataclass(hint) for key, *_ in parameters_of(hint)
        }
        meant = f"Did you mean {prefix}{below[unknown]}?" if unknown in below else suggest(str(unknown), legal)
        raise ConfigError(f"{prefix}{unknown}: there is no such setting. {meant}")
    arguments: dict[str, Any] = {}
    for name, hint, default in parameters:
        if hint is Call:
            arguments[name] = Call
        elif name in flat:
            part = {key: tree[key] for key in own[name] if key in tree}
            known = {} if default is MISSING else _default_tree(default)
            arguments[name] = resolve(flat[name].base, merge(known, part), where, flat[name], complete)
        elif name in tree or default is not MISSING or ((own_slot := slot_of(hint)) and own_slot.nameless):
            known = {} if default is MISSING else _default_tree(default)
            value = merge({name: known}, {name: tree[name]})[name] if name in tree else known
            arguments[name] = _argument(hint, value, f"{prefix}{name}")
        elif complete:
            raise ConfigError(f"{prefix}{name} is missing. Give it with --{prefix}{name}, or in a config.")
    plain = {key: value for key, value in arguments.items() if key in tree and not isinstance(value, Recipe)}
    checked = check_values(target.__init__ if inspect.isclass(target) else target, plain, prefix)
    return Recipe(slot, target, arguments | {name: _absolute(value) for name, value in checked.items()}, where)


def _argument(hint: Any, value: Any, where: str) -> Any:
    """Return a recipe where an annotation takes a class, a list or mapping of recipes for several, or a plain value."""
    if slot := slot_of(hint):
        value = parse(value, f"--{where}") if isinstance(value, Text) and value[:1] in ("{", "~", "n") else value
        if value is None and slot.optional:
            return None
        value = {CLASS: value} if isinstance(value, str) else value
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} takes a class, `name` or `{{class: name, ...}}`, but is {shorten(value)}.")
        rest = {key: item for key, item in value.items() if key != CLASS}
        return resolve(slot.target(value.get(CLASS), where), rest, where, slot)
    if isinstance(value, Text) and not _takes_text(hint):
        value = parse(value, f"--{where}")
    container, inner = CONTAINERS.get(get_origin(hint)), get_args(hint)
    if container is None or not slot_of(inner[-1]):
        return value
    if not isinstance(value, container):
        raise ConfigError(f"{where} is a {container.__name__} of classes, but is {shorten(value)}.")
    if isinstance(value, list):
        return [_argument(inner[0], item, f"{where}.{number}") for number, item in enumerate(value)]
    return {key: _argument(inner[1], item, f"{where}.{key}") for key, item in cast("dict[str, Any]", value).items()}


def _takes_text(hint: Any) -> bool:
    """Tell whether the value of a flag is meant as it was typed: a string, a path or one of several words."""
    parts = get_args(hint)
    if get_origin(hint) in (*UNIONS, Annotated):
        members = parts[:1] if get_origin(hint) is Annotated else [part for part in parts if part is not type(None)]
        return all(_takes_text(part) for part in members)
    return hint in (str, Path) or bool(literals(hint))


def _default_tree(default: Any) -> Any:
    if is_dataclass(default) and not inspect.isclass(default):
        return {field.name: _default_tree(getattr(default, field.name)) for field in fields(default)}
    return public_path(default) if inspect.isclass(default) else default


def instantiate(hint: Any, tree: Any, where: str) -> Any:
    """Build what an annotation describes from a plain tree, such as an entry of a run's config.

    Args:
        hint: annotation, such as `Callable[[], nn.Module]`.
        tree: name of a class, or mapping of its name and arguments.
        where: named in an error.

    Raises:
        ConfigError: if the tree does not fit.
    """
    return _build(_argument(hint, tree, where), None)
