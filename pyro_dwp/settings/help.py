"""Help on the settings of a script: one line each, from annotations, defaults and the `Args:` of docstrings."""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any

from pyro_dwp.checks import type_name
from pyro_dwp.errors import ConfigError, suggest
from pyro_dwp.settings.classes import offered
from pyro_dwp.settings.signatures import Call, parameters_of, positional_names, slot_of
from pyro_dwp.settings.tree import CLASS

WIDTH = 34
COMMON = {
    "--config FILE": "YAML file of settings: a path, or a name in run/configs/ (lgg, methods/unet_ri); later files win",
    "--KEY.help CLASS": "the settings of a class, such as --prior.help gaussian",
}


def script_help(main: Callable[..., Any], defaults: Mapping[str, Any]) -> str:
    """Return the help of a script's function; the defaults of its config are shown in place of those of its signature."""
    common = [f"{flag:{WIDTH}}{text}" for flag, text in COMMON.items()]
    return "\n".join([_summary(main), "", *common, "", *_lines(main, defaults)])


def class_help(main: Callable[..., Any], key: str, name: str) -> str:
    """Return the help on a class that a setting of a script, such as "prior", may name.

    Raises:
        ConfigError: if the setting takes no class, or there is no class of this name.
    """
    slots = {known: slot for known, hint, _ in parameters_of(main) if (slot := slot_of(hint)) and not slot.flat}
    if key not in slots:
        raise ConfigError(f"--{key}.help: {key} takes no class. {suggest(key, slots)}")
    target = slots[key].target(name, key)
    lines = list(_lines(target, {}, f"{key}.", slots[key].given))
    return "\n".join([_summary(target), "", *(lines or ["It has no settings."])])


def _summary(target: Any) -> str:
    return (inspect.getdoc(target) or target.__name__).partition("\n")[0]


def _lines(target: Any, defaults: Mapping[str, Any], prefix: str = "", given: int = 0) -> Iterator[str]:
    """Yield a line for each setting, those of dataclasses one by one."""
    documented, words = documented_arguments(target), positional_names(target)
    for name, hint, default in parameters_of(target, given):
        slot, value = slot_of(hint), defaults.get(name, default)
        if hint is Call:
            continue
        if slot and slot.optional and is_dataclass(slot.base):
            yield f"{f'--{prefix}{name} null':{WIDTH - 1}} {documented.get(name, '')}".rstrip()
        if slot and (slot.flat or is_dataclass(slot.base)):
            own = vars(default) if is_dataclass(default) and not inspect.isclass(default) else {}
            inner, below = (prefix, defaults) if slot.flat else (f"{prefix}{name}.", defaults.get(name) or {})
            yield from _lines(slot.base, own | dict(below), inner, slot.given)
        else:
            known = offered(slot.base, slot.package) if slot else {}
            names = f"one of {', '.join(known)}, package.Class, file.py:Class" if slot else ""
            value = next((short for short, it in known.items() if it is value), value)
            flag = f"--{prefix}{name} {'CLASS' if slot else type_name(hint)}"
            place = "a word before the first flag gives it, too" if name in words else ""
            parts = documented.get(name, "").rstrip("."), names, place, _default(value)
            yield f"{flag:{WIDTH - 1}} " + "; ".join(filter(None, parts))


def documented_arguments(target: Any) -> dict[str, str]:
    """Return name → description from the `Args:` of a docstring, each on one line."""
    block = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", inspect.getdoc(target) or "", flags=re.DOTALL | re.MULTILINE)
    entries = re.findall(r"^ {4}(\w+): (.*?)(?=^ {4}\w|\Z)", block[1] if block else "", flags=re.DOTALL | re.MULTILINE)
    return {name: re.sub(r"\bNone\b", "null", " ".join(text.split())) for name, text in entries}  # as YAML spells it


def _default(value: Any) -> str:
    if value is inspect.Parameter.empty:
        return "required"
    value = value.get(CLASS, value) if isinstance(value, Mapping) else value
    shown = value.__name__ if inspect.isclass(value) else "null" if value is None else str(value)
    shown = shown.lower() if isinstance(value, bool) else shown
    shown = f"[{', '.join(map(str, value))}]" if isinstance(value, tuple | list) else shown
    return f"default {shown}" if shown else ""
