"""A class in a file of the user's own, `my_prior.py:MyPrior`: found, imported, and named again as the user did."""

import importlib.util
import inspect
import sys
import traceback
from pathlib import Path
from zlib import crc32

from pyro_dwp.errors import ConfigError, suggest

PREFIX = "user_file_"


def import_class(file: str, name: str, where: str, folder: Path | None = None) -> str:
    """Import a file under a name that clashes with nothing, and return the dotted path of a class in it.

    Args:
        file: path of the file. A relative one is looked for in `folder` first, then in the working folder.
        name: of the class.
        where: key or flag that it was given for, named in an error.
        folder: of the config file that names the file; None on the command line.

    Raises:
        ConfigError: if there is no such file, it cannot be imported, or holds no such class.
    """
    path = _find(file, name, where, folder)
    module_name = f"{PREFIX}{path.stem}_{crc32(str(path).encode()):08x}"
    if module_name not in sys.modules:
        _execute(path, module_name, where)
    module = sys.modules[module_name]
    if not hasattr(module, name):
        found = vars(module).items()
        classes = [key for key, value in found if inspect.isclass(value) and value.__module__ == module_name]
        raise ConfigError(f"{where}: {path} has no class {name!r}. {suggest(name, classes)}")
    return f"{module_name}.{name}"


def as_given(path: str) -> str | None:
    """Return file.py:Class for the dotted path of a class from a user's file; None for any other."""
    module, _, name = path.rpartition(".")
    file = getattr(sys.modules.get(module), "__file__", None) if module.startswith(PREFIX) else None
    return f"{file}:{name}" if file else None


def exception_line(error: BaseException, path: Path | None = None) -> str:
    """Say in one line what exception was raised, and where in a file, if it was there.

    Example:
        >>> exception_line(ValueError("no such thing"))
        'ValueError: no such thing'
    """
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    if isinstance(error, SyntaxError):
        said = f"{error.msg} (line {error.lineno} of {error.filename})"
    else:
        said = " ".join(str(error).split())
    at = f"in line {lines[-1]}, " if lines else ""
    return f"{at}{type(error).__name__}{f': {said}' if said else ''}"


def _find(file: str, name: str, where: str, folder: Path | None) -> Path:
    path = Path(file).expanduser()
    tried = list(dict.fromkeys((root / path).resolve() for root in (folder, Path.cwd()) if root is not None))
    found = next((place for place in tried if place.is_file()), None)
    if found is None:
        raise ConfigError(
            f"{where}: there is no file {file}; looked for {' and '.join(map(str, tried))}. Give the path of the file that "
            f"holds {name}."
        )
    return found


def _execute(path: Path, module_name: str, where: str) -> None:
    """Run a file as a module; one that fails is not kept, so that a mended file can be tried again."""
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{where}: {path} is no Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[module_name]
        if not isinstance(error, Exception | SystemExit):
            raise
        raise ConfigError(
            f"{where}: {path} cannot be imported: {exception_line(error, path)}. `python {path}` shows the whole traceback."
        ) from error
