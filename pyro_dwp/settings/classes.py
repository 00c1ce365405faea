"""How a user names a class: by a short name, a dotted path, or a file and the class in it.

prior: deep_weight                  a class in __all__ of the package that declares the base, in snake case
prior: my_package.priors.MyPrior    anything that can be imported
prior: my_prior.py:MyPrior          a class in a file of your own
"""

import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyro_dwp.checks import hints_of
from pyro_dwp.errors import ConfigError, suggest


@dataclass(frozen=True)
class Offers:
    """The package whose `__all__` gives the short names, in an annotation whose base belongs to another library."""

    package: str


def offered(base: type, package: str | None = None) -> dict[str, Any]:
    """Return the classes that a user may name where a base is asked for, by short name.

    These are the concrete classes in `__all__` of the package, or of the one that declares the base, in snake case and without
    the base's own name as an ending: `MixtureFit` of `Fit` is "mixture". A class that another of them derives from is left out.
    """
    home = importlib.import_module(package) if package else _home(base)
    listed = [getattr(home, name) for name in getattr(home, "__all__", ())]
    found = [it for it in listed if inspect.isclass(it) and issubclass(it, base) and it is not base]
    final = [it for it in found if not inspect.isabstract(it) and not any(it in other.__mro__[1:] for other in found)]
    return {_snake(it.__name__.removesuffix(base.__name__)): it for it in sorted(final, key=lambda it: it.__name__)}


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _home(base: type) -> Any:
    parts = base.__module__.split(".")
    packages = [sys.modules.get(".".join(parts[:length])) for length in range(len(parts), 0, -1)]
    return next((package for package in packages if base.__name__ in getattr(package, "__all__", ())), None)


def public_path(target: Any) -> str:
    """Return how another process finds a class: the shortest dotted path, or FILE.py:Class with an absolute path.

    Example:
        >>> from pyro_dwp.nn import UNet
        >>> public_path(UNet)
        'pyro_dwp.UNet'
    """
    module, name = target.__module__, target.__qualname__
    if module.endswith(".py"):
        return f"{module}:{name}"
    parts = module.split(".")
    shorter = (".".join(parts[:length]) for length in range(1, len(parts)))
    home = next((path for path in shorter if getattr(sys.modules.get(path), name, None) is target), module)
    return f"{home}.{name}"


def find_class(name: str, base: type, where: str, package: str | None = None) -> Any:
    """Return the class, derived from the base, that a name given for a setting stands for, or a function annotated to return one.

    Raises:
        ConfigError: if there is no such class, it does not derive from the base, or it lacks a method.
    """
    short = offered(base, package)
    if name in short:
        return short[name]
    file, colon, inside = name.rpartition(":")
    if colon and file.endswith(".py"):
        target = _from_file(Path(file).expanduser().absolute(), inside, where)
    elif name.endswith(".py"):
        raise ConfigError(f"{where}: {name} is a file. Name the class in it, too: {name}:MyClass.")
    elif "." in name:
        target = _from_path(name, where, short)
    else:
        raise ConfigError(
            f"{where}: there is no {base.__name__} called {name!r}. {suggest(name, short)} A class of your own is given as "
            "package.module.Class or as file.py:Class."
        )
    _check_class(target, base, name, where)
    return target


def _from_path(path: str, where: str, short: dict[str, Any]) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # whatever the code of a user's module raises
        raise ConfigError(f"{where}: {path} cannot be imported ({one_line(error)}). {suggest(path, short)}") from error


def _from_file(path: Path, name: str, where: str) -> Any:
    """Import a file under its absolute path, which clashes with nothing."""
    path = path.resolve()
    if not path.is_file():
        raise ConfigError(f"{where}: there is no file {path}. Give the path of the file that holds {name}.")
    module = sys.modules.get(str(path)) or _execute(path, where)
    if not hasattr(module, name):
        own = [key for key, it in vars(module).items() if inspect.isclass(it) and it.__module__ == str(path)]
        raise ConfigError(f"{where}: {path} has no class {name!r}. {suggest(name, own)}")
    return getattr(module, name)


def _execute(path: Path, where: str) -> Any:
    spec = importlib.util.spec_from_file_location(str(path), path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{where}: {path} is not a Python file.")
    module = sys.modules[str(path)] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[str(path)]  # so that a corrected file can be tried again
        if not isinstance(error, Exception | SystemExit):
            raise
        raise ConfigError(
            f"{where}: {path} cannot be imported: {one_line(error, path)}. `python {path}` shows the whole traceback."
        ) from error
    return module


def one_line(error: BaseException, path: Path | None = None) -> str:
    """Say in one line what exception was raised, and in which line of a file, if it was there."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    said = f"{error.msg} (line {error.lineno})" if isinstance(error, SyntaxError) else " ".join(str(error).split())
    return (f"line {lines[-1]}, " if lines else "") + type(error).__name__ + (f": {said}" if said else "")


def _check_class(target: Any, base: type, name: str, where: str) -> None:
    if not inspect.isclass(target):
        made = hints_of(target).get("return")
        if not inspect.isclass(made) or not issubclass(made, base):
            raise ConfigError(f"{where}: {name} is not a class. Name one that derives from {public_path(base)}.")
    elif not issubclass(target, base):
        raise ConfigError(f"{where}: {name} is not a {base.__name__}. Derive it from {public_path(base)}.")
    elif inspect.isabstract(target):
        methods = sorted(vars(target)["__abstractmethods__"])
        missing = [f"{it}({', '.join(inspect.signature(getattr(target, it)).parameters)})" for it in methods]
        raise ConfigError(f"{where}: {name} cannot be built: it has no method {', '.join(missing)}. Define it.")
