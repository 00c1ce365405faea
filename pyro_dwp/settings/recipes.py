"""A plain tree of settings, checked against the signatures of what it names: a recipe, from which the objects are built."""

import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, cast, get_args, get_origin

from pyro_dwp.checks import check_values, shorten
from pyro_dwp.errors import ConfigError, PyroDwpError, suggest
from pyro_dwp.safe_yaml import parse
from pyro_dwp.settings.classes import one_line, public_path
from pyro_dwp.settings.flag_text import read_text, takes_text
from pyro_dwp.settings.signatures import MISSING, Call, Slot, parameters_of, setting_names, slot_of
from pyro_dwp.settings.tree import CLASS, PLACEHOLDER, Text, Tree, inside, merge

CONTAINERS: dict[Any, type] = {list: list, Sequence: list, dict: dict, Mapping: dict}


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
        nested = [(n, hint) for n, hint, _ in parameters if inspect.isclass(hint) and is_dataclass(hint)]
        below = {key: f"{n}.{key}" for n, hint in nested for key, *_ in parameters_of(hint)}
        meant = f"Did you mean {prefix}{below[unknown]}?" if unknown in below else suggest(str(unknown), legal)
        name = f"{prefix}{unknown}" if str(unknown).isprintable() else f"{prefix}{unknown!a}"
        raise ConfigError(f"{name}: there is no such setting. {meant}")
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
    if isinstance(value, Text) and not takes_text(hint):
        value = read_text(hint, value, where)
    container, inner = CONTAINERS.get(get_origin(hint)), get_args(hint)
    if container is None or not slot_of(inner[-1]):
        return value
    if not isinstance(value, container):
        raise ConfigError(f"{where} is a {container.__name__} of classes, but is {shorten(value)}.")
    if isinstance(value, list):
        return [_argument(inner[0], item, f"{where}.{number}") for number, item in enumerate(value)]
    return {key: _argument(inner[1], item, f"{where}.{key}") for key, item in cast("dict[str, Any]", value).items()}


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
