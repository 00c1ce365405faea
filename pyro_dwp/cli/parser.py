"""From the signature of a script's `main` to flags, help, and typed arguments."""

import argparse
import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

from jsonargparse import ArgumentParser, Namespace, get_loader
from yaml import YAMLError

from pyro_dwp.cli.configs import check_keys, read_yaml
from pyro_dwp.cli.help import HelpFormatter, class_help, one_line_each
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
        self.parser = ArgumentParser(
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
        """Write short names out, and let a switch such as `--resume` stand without a value."""
        translated, pending = [], list(arguments)
        while pending:
            token = pending.pop(0)
            flag, equals, value = token.partition("=")
            key = flag[2:].removesuffix(".class_path").removesuffix(".help")
            takes_class = flag.startswith("--") and key.partition(".")[0] in self.bases
            if flag[2:] in self.switches and flag.startswith("--") and not equals:
                follows = pending and pending[0].lower() in ("true", "false", "yes", "no")
                token = f"{flag}={pending.pop(0) if follows else 'true'}"
            elif takes_class and (equals or (pending and not pending[0].startswith("--"))):
                token = f"{flag}={self._resolve(key, value if equals else pending.pop(0))}"
            translated.append(token)
        return translated

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
            config = resolve_tree(read_yaml(path), self.bases)
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
            raise ConfigError(explain(str(error), Given(list(configs), flags, self.flags, self.bases))) from error
        settings.pop("config", None)
        return settings

    def _one_class(self, configs: Iterable[Mapping[str, Any]], flags: Sequence[str]) -> list[dict[str, Any]]:
        """Leave out the classes that a later config or flag replaces, so that none inherits another one's arguments."""
        kept = [dict(config) for config in configs]
        defaults = self.parser.get_defaults(skip_validation=True)
        for key in self.bases:
            given = [_class_path(config.get(key)) for config in kept]
            for flag in flags:
                for prefix in (f"--{key}=", f"--{key}.class_path="):
                    given += [_class_path(flag.removeprefix(prefix))] if flag.startswith(prefix) else []
            final = next((path for path in reversed(given) if path), None)
            if final is None:
                continue
            for config in kept:
                if key in config and not _same_class(_class_path(config[key]), final):
                    del config[key]
            if not _same_class(_class_path(defaults.get(key)), final):
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
        self.parser.set_defaults(_leaves(config, self.keys))
        hints = get_type_hints(self.main)
        sections = [
            class_help(key, name, path, hints[key])
            for key, base in self.bases.items()
            for name, path in legal_names(base).items()
        ]
        return "\n".join([self.parser.format_help(), *filter(None, sections)])


def _class_path(value: Any) -> str | None:
    """Return the class that a setting names: a dotted path, a mapping with `class_path`, or the JSON of one."""
    if isinstance(value, str):
        return _class_path(json.loads(value)) if value.startswith("{") else value
    return value.get("class_path") if isinstance(value, Mapping | Namespace) else None


def _same_class(path: str | None, other: str) -> bool:
    return path in (None, other) or (load_class(str(path)) or path) is load_class(other)


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


def instantiate(kind: Any, value: Any) -> Any:
    """Build one object again from the config of a run.

    Args:
        kind: annotation that the script's `main` gives it, e.g. `Preprocess` or `Callable[[dict, dict], Guide]`.
        value: what `load_config` returned for it.

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
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=kind)
    try:
        settings = parser.parse_object(resolve_tree({"value": value}, class_parameters(main)))
    except argparse.ArgumentError as error:
        raise ConfigError(str(error)) from error
    return parser.instantiate(settings)["value"]
