"""How a user names a class in a config or on the command line: short name, dotted path, or file and class.

prior: deep_weight                          # a short name from NAMES
prior: pyro_dwp.priors.DeepWeight           # a dotted path to anything installed
prior: my_prior.py:MyPrior                  # a class in a file of the user's own
"""

import importlib
import inspect
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from difflib import get_close_matches
from enum import Enum
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from pyro_dwp.cli.check_class import check_class
from pyro_dwp.cli.user_file import as_given, exception_line, import_class
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
KINDS = ("network", "source of data", "prior", "likelihood", "guide", "estimator", "prior that is fitted")  # of NAMES
PLAIN_MODULES = ("builtins", "pathlib")
# Classes of another library that a function makes fit: base of such classes → the function, from class to class.
ADAPTERS = {
    "pyro.infer.autoguide.guides.AutoGuide": "guides.auto.adapter",
    "pyro.infer.autoguide.effect.AutoMessenger": "guides.auto.adapter",
}

# Package that legal classes are in → where others are that go by their path, and what --help says of them.
ELSEWHERE = {"guides.": "pyro.infer.autoguide"}
OWN = "A class of your own is given as package.module.Class or as file.py:Class."
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
    except Exception:  # whatever the code of a user's module raises
        return None


def _load(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def resolve(name: str, base: type, where: str, folder: Path | None = None) -> str:
    """Return the dotted path for whatever way of naming a class.

    Args:
        name: short name, class name, dotted path, or `file.py:Class`.
        base: what the class must derive from.
        where: key or flag that it was given for, named in an error.
        folder: of the config file that holds the name, where a relative `file.py` is looked for first.

    Raises:
        ConfigError: if the name is none of these, or the class cannot be built.

    Example:
        >>> from torch import nn
        >>> resolve("unet", nn.Module, "network")
        'pyro_dwp.nn.UNet'
    """
    short = legal_names(base)
    if name in short:
        return short[name]
    if name in ("null", "None") or (base is object and "." not in name):
        return name
    path = _adapted(_find(name, base, where, folder))
    check_class(load_class(path), base, name, where)
    return path


def _find(name: str, base: type, where: str, folder: Path | None) -> str:
    """Return the dotted path of a class that has no short name."""
    short = legal_names(base)
    file, colon, found = name.rpartition(":")
    if colon and file.endswith(".py"):
        return import_class(file, found, where, folder)
    if name.endswith(".py"):
        raise ConfigError(f"{where}: {name} is a file. Name the class in it, too: {name}:MyClass.")
    if "." in name:
        try:
            _load(name)
        except Exception as error:  # whatever the code of a user's module raises
            said = exception_line(error)
            raise ConfigError(f"{where}: {name} cannot be imported ({said}). {suggest(name, short)}") from error
        return name
    family = [member for member in _family(base) if not hasattr(member, "adapts")]
    known = {member.__name__: f"{member.__module__}.{member.__qualname__}" for member in family}
    if name in known:
        return known[name]
    raise ConfigError(f"{where}: {_unknown(name, base)} {suggest(name, short)}{_elsewhere(name, short)} {OWN}")


def _unknown(name: str, base: type) -> str:
    """Say that there is no such class; for the short name of another kind of class, which kind that is."""
    group = next((number for number, names in enumerate(NAMES) if names == legal_names(base)), None)
    other = next((number for number, names in enumerate(NAMES) if name in names), None)
    if not name:
        return "the name of a class is missing."
    if group is None or other is None:
        return f"there is no {base.__name__} called {name!r}."
    fitted = KINDS[group] == "prior that is fitted" and KINDS[other] == "prior"
    use = f" It is used as it is, by `run/svi_target.py --prior {name}`." if fitted else ""
    return f"{name!r} is a {KINDS[other]}, but no {KINDS[group]}.{use}"


def _elsewhere(name: str, short: Mapping[str, str]) -> str:
    """Return the path of a class of another library that may have been meant."""
    for package, library in ELSEWHERE.items():
        if short and all(path.startswith(package) for path in short.values()):
            near = get_close_matches(name, importlib.import_module(library).__all__, n=1, cutoff=0.8)
            return f" Did you mean '{library}.{near[0]}'?" if near else ""
    return ""


def _adapted(path: str) -> str:
    """Return the dotted path of the class that stands for this one, where there is one; else the path itself."""
    found = _load(path)
    if inspect.isclass(found):
        for parent in found.__mro__:
            if adapter := ADAPTERS.get(f"{parent.__module__}.{parent.__qualname__}"):
                made = _load(adapter)(found)
                return f"{made.__module__}.{made.__qualname__}"
    return path


def resolve_tree(tree: Any, bases: Mapping[str, type], where: str = "", folder: Path | None = None) -> Any:
    """Resolve every name of a class in a config, at any depth.

    At the top, names stand under the keys of `bases`. Below a `class_path` they stand where that class takes a class, or a
    dataclass that does, such as `prior` in a rule of `pyro_dwp.priors.Assigned`.

    Args:
        tree: what was read.
        bases: key → base of the class that it names; under "", that of a `class_path`.
        where: key of the tree, named in an error; "" at the top.
        folder: of the config file that was read, where a relative `file.py:Class` is looked for first.

    Returns:
        The tree, with dotted paths for names.

    Raises:
        ConfigError: if a name is none of a class.
    """
    if isinstance(tree, list):
        return [resolve_tree(item, bases, where, folder) for item in tree]
    if not isinstance(tree, dict):
        return tree
    resolved = {}
    if isinstance(path := tree.get("class_path"), str):
        resolved["class_path"] = resolve(path, bases.get("", object), where, folder)
        bases = nested_parameters(load_class(resolved["class_path"]))
    below = bases if where else {}
    for key, value in tree.items():
        place = f"{where}.{key}" if where else str(key)
        if isinstance(value, str) and key in bases:
            resolved[key] = resolve(value, bases[key], place, folder)
        elif key not in resolved:
            inner = {**below, "": bases[key]} if key in bases else below
            resolved[key] = resolve_tree(value, inner, place, folder)
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
        for hint in argument_types(get_type_hints(target.__init__).values()):
            below |= class_parameters(hint.__init__) if inspect.isclass(hint) and is_dataclass(hint) else {}
        below |= class_parameters(target.__init__)
    except (AttributeError, NameError, TypeError):
        return {}  # no class, or one with annotations for type checkers only
    return {name: base for name, base in below.items() if legal_names(base)}


def argument_types(hints: Iterable[Any]) -> Iterator[Any]:
    """Return the types that annotations are made of: list[Rule | None] → Rule, None."""
    for hint in hints:
        yield from argument_types(get_args(hint)) if get_args(hint) else (hint,)


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
    return (as_given(tree) if isinstance(tree, str) else None) or tree


def _family(base: type) -> Iterator[type]:
    yield base
    children: list[type] = type.__subclasses__(base)
    for child in children:
        yield from _family(child)
