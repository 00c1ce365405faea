"""How a user names a class in a config or on the command line: short name, dotted path, or file and class.

prior: deep_weight                          # a short name from NAMES
prior: pyro_dwp.priors.DeepWeight           # a dotted path to anything installed
prior: my_prior.py:MyPrior                  # a class in a file of the user's own
"""

import importlib.util
import inspect
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints
from zlib import crc32

from pyro_dwp.errors import ConfigError, suggest

# One group for each kind of class. The base asked for selects the first group whose classes all have it.
NAMES = (
    {"unet": "pyro_dwp.nn.UNet"},
    {
        "decathlon": "pyro_dwp.data.Decathlon",
        "folder_pairs": "pyro_dwp.data.FolderPairs",
        "phantoms": "pyro_dwp.data.Phantoms",
    },
    {
        "assigned": "pyro_dwp.priors.Assigned",
        "deep_weight": "pyro_dwp.priors.DeepWeight",
        "empirical": "pyro_dwp.priors.Empirical",
        "flow": "pyro_dwp.priors.Flow",
        "gaussian": "pyro_dwp.priors.Gaussian",
        "laplace": "pyro_dwp.priors.Laplace",
        "mixture": "pyro_dwp.priors.Mixture",
        "pretrained": "pyro_dwp.priors.Pretrained",
        "scale_mixture": "pyro_dwp.priors.ScaleMixture",
        "student_t": "pyro_dwp.priors.StudentT",
    },
    {
        "categorical": "pyro_dwp.likelihoods.Categorical",
        "dice_cross_entropy": "pyro_dwp.likelihoods.DiceCrossEntropy",
    },
    {
        "ensemble": "guides.Ensemble",
        "kernel_covariance": "guides.KernelCovariance",
        "latent": "guides.Latent",
        "low_rank": "guides.LowRank",
        "matrix_normal": "guides.MatrixNormal",
        "mean_field": "guides.MeanField",
        "point": "guides.Point",
    },
    {
        "shared_sample": "pyro_dwp.infer.SharedSample",
        "flipout": "pyro_dwp.infer.Flipout",
        "local_reparametrisation": "pyro_dwp.infer.LocalReparametrisation",
    },
    {
        "deep_weight": "models.fit_deep_weight.FitDeepWeight",
        "empirical": "pyro_dwp.train.FitEmpirical",
        "flow": "pyro_dwp.train.FitFlow",
        "mixture": "pyro_dwp.train.FitMixture",
    },
)
PLAIN_MODULES = ("builtins", "pathlib")
# Classes of another library that a function makes fit: base of such classes → the function, from class to class.
ADAPTERS = {"pyro.infer.autoguide.guides.AutoGuide": "guides.auto.adapter"}

RELATIVES = {"guides.": "or a guide of Pyro, by its path: pyro.infer.autoguide.AutoNormal and others"}


def class_parameters(main: Callable[..., Any]) -> dict[str, type]:
    """Return the parameters of a function that take a class by name, with the base that the class must have.

    These are the ones annotated with a class, or with a `Callable` that returns one (a class whose first arguments
    the function gives later). Dataclasses are not among them: their fields are flags of their own.

    Example:
        >>> from torch import nn
        >>> def main(network: Callable[[], nn.Module], seed: int) -> None: ...
        >>> class_parameters(main)
        {'network': <class 'torch.nn.modules.module.Module'>}
    """
    hints = get_type_hints(main)
    bases = {name: _base(hint) for name, hint in hints.items() if name != "return"}
    return {name: base for name, base in bases.items() if base is not None}


def _base(hint: Any) -> type | None:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return next((base for base in map(_base, get_args(hint)) if base is not None), None)
    if origin is get_origin(Callable[[], None]):
        return _base(get_args(hint)[-1])
    if not inspect.isclass(hint) or is_dataclass(hint) or issubclass(hint, Enum | types.NoneType):
        return None
    return None if hint.__module__ in PLAIN_MODULES else hint


def legal_names(base: type) -> dict[str, str]:
    """Return short name → dotted path of the classes that are meant where this base is asked for."""
    return next((group for group in NAMES if all(issubclass(_load(path), base) for path in group.values())), {})


def load_class(path: str) -> Any:
    """Import what a dotted path names; None where there is nothing."""
    try:
        return _load(path)
    except (ImportError, AttributeError, ValueError):
        return None


def _load(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def resolve(name: str, base: type, where: str) -> str:
    """Return the dotted path for whatever way of naming a class.

    Args:
        name: short name, class name, dotted path, or `file.py:Class`.
        base: what the class must derive from.
        where: key or flag that it was given for, named in an error.

    Raises:
        ConfigError: if the name is none of these, or the file does not hold the class.

    Example:
        >>> from torch import nn
        >>> resolve("unet", nn.Module, "network")
        'pyro_dwp.nn.UNet'
    """
    short = legal_names(base)
    if name in short:
        return short[name]
    file, colon, found = name.rpartition(":")
    if colon and file.endswith(".py"):
        return _adapted(_from_file(Path(file).expanduser(), found, where))
    if name in ("null", "None", "") or (base is object and "." not in name):
        return name
    if name.endswith(".py"):
        raise ConfigError(f"{where}: {name} is a file. Name the class in it, too: {name}:MyClass.")
    if "." in name:
        try:
            _load(name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigError(f"{where}: {name} cannot be imported ({error}). {suggest(name, short)}") from error
        return _adapted(name)
    known = {member.__name__: f"{member.__module__}.{member.__qualname__}" for member in _family(base)}
    if name in known:
        return known[name]
    raise ConfigError(
        f"{where}: there is no {base.__name__} called {name!r}. {suggest(name, short)} "
        "A class of your own is given as package.module.Class or as file.py:Class."
    )


def _adapted(path: str) -> str:
    """Return the dotted path of the class that stands for this one, where there is one; else the path itself."""
    found = _load(path)
    if inspect.isclass(found):
        for parent in found.__mro__:
            if adapter := ADAPTERS.get(f"{parent.__module__}.{parent.__qualname__}"):
                made = _load(adapter)(found)
                return f"{made.__module__}.{made.__qualname__}"
    return path


def resolve_tree(tree: Any, bases: Mapping[str, type], where: str = "") -> Any:
    """Resolve every name of a class in a config, at any depth.

    At the top, names stand under the keys of `bases`. Below a `class_path` they stand where that class takes a class, or a
    dataclass that does, such as `prior` in a rule of `pyro_dwp.priors.Assigned`.

    Args:
        tree: what was read.
        bases: key → base of the class that it names; under "", that of a `class_path`.
        where: key of the tree, named in an error; "" at the top.

    Returns:
        The tree, with dotted paths for names.

    Raises:
        ConfigError: if a name is none of a class.
    """
    if isinstance(tree, list):
        return [resolve_tree(item, bases, where) for item in tree]
    if not isinstance(tree, dict):
        return tree
    resolved = {}
    if isinstance(path := tree.get("class_path"), str):
        resolved["class_path"] = resolve(path, bases.get("", object), where)
        bases = nested_parameters(load_class(resolved["class_path"]))
    below = bases if where else {}
    for key, value in tree.items():
        place = f"{where}.{key}" if where else str(key)
        if isinstance(value, str) and key in bases:
            resolved[key] = resolve(value, bases[key], place)
        elif key not in resolved:
            resolved[key] = resolve_tree(value, {**below, "": bases[key]} if key in bases else below, place)
    return resolved


def nested_parameters(target: Any) -> dict[str, type]:
    """Return the parameters of a class that take one of the classes in NAMES, and such fields of dataclasses that it takes.

    Example:
        >>> from pyro_dwp.priors import Assigned
        >>> nested_parameters(Assigned)
        {'prior': <class 'pyro_dwp.priors.base.PriorFamily'>}
    """
    below: dict[str, type] = {}
    try:
        for hint in _atoms(get_type_hints(target.__init__).values()):
            below |= class_parameters(hint.__init__) if inspect.isclass(hint) and is_dataclass(hint) else {}
        below |= class_parameters(target.__init__)
    except (AttributeError, NameError, TypeError):
        return {}  # no class, or one with annotations for type checkers only
    return {name: base for name, base in below.items() if legal_names(base)}


def _atoms(hints: Iterable[Any]) -> Iterator[Any]:
    """Return the types that annotations are made of: list[Rule | None] → Rule, None."""
    for hint in hints:
        yield from _atoms(get_args(hint)) if get_args(hint) else (hint,)


def portable(tree: Any) -> Any:
    """Name classes as the user did, so that another process finds them: `file.py:Class`, and what an adapter stands for."""
    if isinstance(tree, dict):
        return {key: portable(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [portable(value) for value in tree]
    module, _, name = tree.rpartition(".") if isinstance(tree, str) else ("", "", "")
    if original := getattr(vars(sys.modules.get(module, object)).get(name), "adapts", None):
        module, name = original.__module__, original.__qualname__
        tree = f"{module}.{name}"
    file = getattr(sys.modules.get(module), "__file__", None) if module.startswith("user_file_") else None
    return f"{file}:{name}" if file else tree


def _from_file(path: Path, name: str, where: str) -> str:
    """Import a user's file under a name that clashes with nothing, and return the dotted path of its class."""
    if not path.is_file():
        raise ConfigError(f"{where}: there is no file {path}. Give the path of the file that holds {name}.")
    path = path.resolve()
    module_name = f"user_file_{path.stem}_{crc32(str(path).encode()):08x}"
    if module_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(module_name, path)
        if spec is None or spec.loader is None:
            raise ConfigError(f"{where}: {path} is no Python file.")
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        spec.loader.exec_module(module)
    module = sys.modules[module_name]
    if not hasattr(module, name):
        classes = [key for key, value in vars(module).items() if inspect.isclass(value)]
        raise ConfigError(f"{where}: {path} has no class {name!r}. {suggest(name, classes)}")
    return f"{module_name}.{name}"


def _family(base: type) -> Iterator[type]:
    yield base
    children: list[type] = type.__subclasses__(base)
    for child in children:
        yield from _family(child)
