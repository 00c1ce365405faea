"""From the signature of a script's `main` to flags, help, and typed arguments."""

import argparse
import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import Namespace, get_loader
from yaml import YAMLError

from pyro_dwp.cli.class_flags import ClassFlags, class_path, flag_class, same_class
from pyro_dwp.cli.configs import check_keys, read_yaml
from pyro_dwp.cli.help import ClassParser, HelpFormatter, asked_help, class_help, one_line_each
from pyro_dwp.cli.messages import Given, explain
from pyro_dwp.cli.names import class_parameters, legal_names, load_class, portable, resolve, resolve_tree
from pyro_dwp.errors import ConfigError


class ScriptParser:
    """Parses the command line and config files of one script.

    Args:
        main: the script's function; its annotations are the types, its docstring the help.
    """

    def __init__(self, main: Callable[..., Any]) -> None:
        self.main = main
        self.bases = class_parameters(main)
        self.parser = ClassParser(
            prog=Path(inspect.getfile(main)).name,
            description=inspect.cleandoc(main.__globals__.get("__doc__") or ""),
            exit_on_error=False,
            allow_abbrev=False,
            formatter_class=HelpFormatter,
        )
        self.parser.add_argument(
            "--config", action="config", help="YAML file of settings, or the name of one in run/configs/."
        )
        self.parser.add_function_arguments(main, fail_untyped=True)
        actions = [action for action in self.parser._actions if action.option_strings]
        self.flags = {option for action in actions for option in action.option_strings}
        self.switches = {action.dest for action in actions if getattr(action, "_typehint", None) is bool}
        self.keys = _keys([action.dest for action in actions if action.dest not in ("help", "config", "print_config")])

    def translate(self, arguments: Sequence[str]) -> list[str]:
        """Write short names out, put classes before their arguments, and let a switch such as `--resume` stand without a value.

        Raises:
            ConfigError: if a class cannot be found or built.
        """
        translated: list[str] = []
        pending, classes = list(arguments), ClassFlags()
        while pending:
            token = pending.pop(0)
            flag, equals, value = token.partition("=")
            key = flag[2:].removesuffix(".class_path").removesuffix(".help")
            takes_class = flag.startswith("--") and key.partition(".")[0] in self.bases
            if flag[2:] in self.switches and flag.startswith("--") and not equals:
                follows = pending and pending[0].lower() in ("true", "false", "yes", "no")
                token = f"{flag}={pending.pop(0) if follows else 'true'}"
            elif takes_class and (equals or (pending and not pending[0].startswith("--"))):
                value = value if equals else pending.pop(0)
                found = self._resolve(key, value)
                if not flag.endswith(".help"):
                    if classes.replaces(key, found):
                        translated = [other for other in translated if not other.startswith(f"--{key}.")]
                    if classes.add(key, found):
                        continue
                token = f"{flag}={found}"
            translated.append(token)
        return [*classes.flags, *translated]

    def _resolve(self, key: str, value: str) -> str:
        """Write out the names of classes in the value of a flag, `--guide` or below it, as `--guide.guide`.

        Below it the class that takes the value is not known yet, so only a short name, the path of a class or file.py:Class is
        one.
        """
        above, _, last = key.rpartition(".")
        if value.lstrip().startswith(("{", "[")):
            try:
                tree = {last: get_loader("yaml")(value)}
            except YAMLError:
                return value
            return json.dumps(resolve_tree(tree, self.bases, above)[last], default=str)
        base = self.bases.get(last)
        named = value in legal_names(base or object) or ".py:" in value or inspect.isclass(load_class(value))
        if base is None or (above and not named):
            return value
        return resolve(value, base, f"--{key}")

    def read(self, path: Path) -> dict[str, Any]:
        """Read a config file, its classes resolved and its keys checked.

        Raises:
            ConfigError: if a key is unknown or a class cannot be found.
        """
        try:
            config = resolve_tree(read_yaml(path), self.bases, folder=path.parent)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}" if str(path) not in str(error) else str(error)) from error
        config.pop("provenance", None)
        check_keys(config, self.keys, str(path))
        return config

    def parse(self, configs: Mapping[str, Mapping[str, Any]], flags: Sequence[str]) -> Namespace:
        """Return the settings that result from configs, later ones before earlier ones, and flags before both.

        Args:
            configs: file → its settings, resolved and checked.
            flags: translated.

        Raises:
            ConfigError: if a flag is unknown or a value has the wrong type.
        """
        inline = [f"--config={json.dumps(config)}" for config in self._one_class(configs.values(), flags) if config]
        try:
            settings = self.parser.parse_args([*inline, *flags])
        except argparse.ArgumentError as error:
            raise ConfigError(explain(str(error), Given(configs, flags, self.flags, self.bases))) from error
        settings.pop("config", None)
        return settings

    def _one_class(self, configs: Iterable[Mapping[str, Any]], flags: Sequence[str]) -> list[dict[str, Any]]:
        """Leave out the classes that a later config or flag replaces, so that none inherits another one's arguments."""
        kept = [dict(config) for config in configs]
        defaults = self.parser.get_defaults(skip_validation=True)
        for key in self.bases:
            given = [class_path(config.get(key)) for config in kept]
            for flag in flags:
                given += [found] if (found := flag_class(flag, key)) else []
            final = next((path for path in reversed(given) if path), None)
            if final is None:
                continue
            for config in kept:
                if key in config and not same_class(class_path(config[key]), final):
                    del config[key]
            if not same_class(class_path(defaults.get(key)), final):
                self.parser.set_defaults({key: {"class_path": final}})
        return kept

    def plain(self, settings: Namespace) -> dict[str, Any]:
        """Return settings as a dict of YAML's own types, which `read` takes back."""
        text = self.parser.dump(settings, skip_unset=False)
        return portable(get_loader("yaml")(text) or {})

    def build(self, settings: Namespace) -> dict[str, Any]:
        """Return the arguments of `main`, its classes and dataclasses built."""
        objects = self.parser.instantiate(settings)
        return {name: objects[name] for name in inspect.signature(self.main).parameters}

    def help(self, config: Mapping[str, Any]) -> str:
        """Return the help: a config's values as defaults, and the arguments of every class that has a short name."""
        for action in self.parser._actions:
            if action.dest in self.bases:
                action.help = f"{action.help} One of:\n{one_line_each(legal_names(self.bases[action.dest]))}\n"
        self.parser.set_defaults(leaves := _leaves(config, self.keys))
        for action in self.parser._actions:
            action.required = action.required and action.dest not in leaves
        sections = [
            class_help(key, name, path) for key, base in self.bases.items() for name, path in legal_names(base).items()
        ]
        return "\n".join([self.parser.format_help(), *filter(None, sections)])

    def class_help(self, configs: Iterable[Mapping[str, Any]], flags: Sequence[str]) -> str | None:
        """Return what `--KEY.help CLASS` asks for, as `pyro_dwp.cli.help.asked_help`; None where no flag asks."""
        if not any(".help" in flag for flag in flags):
            return None
        defaults = self.parser.get_defaults(skip_validation=True)
        return asked_help(self.bases, [defaults, *configs], flags)


def _keys(destinations: Sequence[str]) -> dict[str, set[str]]:
    """Group dotted keys by their first part: {"": all first parts, "schedule": {"epochs", ...}}."""
    keys: dict[str, set[str]] = {"": {destination.split(".")[0] for destination in destinations}}
    for destination in destinations:
        top, _, below = destination.partition(".")
        if below and below != "help":
            keys.setdefault(top, set()).add(below)
    return keys


def _leaves(config: Mapping[str, Any], keys: Mapping[str, set[str]]) -> dict[str, Any]:
    """Return the values of a config by the flag that sets each."""
    leaves: dict[str, Any] = {}
    for key, value in config.items():
        if key in keys and isinstance(value, dict):
            leaves |= {f"{key}.{below}": item for below, item in value.items()}
        else:
            leaves[key] = value
    return leaves


def instantiate(kind: Any, value: Any, where: str = "") -> Any:
    """Build one object again from the config of a run.

    Args:
        kind: annotation that the script's `main` gives it, e.g. `Preprocess` or `Callable[[dict, dict], Guide]`.
        value: what `load_config` returned for it.
        where: setting that the value comes from, named in an error; empty takes a word for `kind`.

    Returns:
        The object; where `kind` is a `Callable`, the class with its arguments bound.

    Raises:
        ConfigError: if the value does not fit.

    Example:
        >>> from torch import nn
        >>> instantiate(nn.Module, {"class_path": "unet", "init_args": {"channels": [4, 8]}}).channels
        (4, 8)
    """

    def main(value: Any) -> None: ...

    main.__annotations__["value"] = kind
    bases = class_parameters(main)
    where = where or _word(bases.get("value", kind))
    parser = ClassParser(exit_on_error=False)
    parser.add_argument("--value", type=kind)
    resolved = resolve_tree({where: value}, {where: bases["value"]} if bases else {})
    try:
        settings = parser.parse_object({"value": resolved[where]})
    except argparse.ArgumentError as error:
        message = str(error).replace('Parser key "value', f'Parser key "{where}', 1)
        raise ConfigError(explain(message, Given({}, [], [], {}))) from error
    return parser.instantiate(settings)["value"]


def _word(kind: Any) -> str:
    """Return the name of a class as words.

    Example:
        >>> from pyro_dwp.priors import PriorFamily
        >>> _word(PriorFamily)
        'prior family'
    """
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", getattr(kind, "__name__", "value")).lower()
