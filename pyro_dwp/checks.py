"""Values checked against annotated signatures by pydantic: types and bounds of settings are written in the constructors alone.

    @checked
    def __init__(self, scale: PositiveFloat, rank: PositiveInt = 8) -> None: ...

A bound is an annotation, such as pydantic's `PositiveFloat` or `Annotated[float, Gt(2)]`; NaN and infinity are refused. The same
check serves a config, a flag and a call in Python. Arguments of other types (modules, tensors, functions) pass unchanged.
"""

import functools
import inspect
import re
import types
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from annotated_types import Gt, Lt
from pydantic import BaseModel, ConfigDict, Strict, ValidationError, create_model
from pydantic_core import ErrorDetails
from typing_extensions import dataclass_transform

from pyro_dwp.errors import ConfigError, suggest

Share = Annotated[float, Gt(0), Lt(1)]
"""A share of a whole, strictly between 0 and 1."""

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
STRICT = (bool, int, float, str)
PLAIN = (*STRICT, Path, type(None), Any)
CONTAINERS = (list, tuple, dict, Sequence, Mapping)
UNIONS = (Union, types.UnionType)
NAMES = {bool: "BOOL", int: "INT", float: "FLOAT", str: "TEXT", Path: "PATH", type(None): "null"}
STRUCTURES = ("tuple_type", "list_type", "dict_type", "missing")


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Check the plain arguments of a function, usually `__init__`, at each call: their types and bounds.

    Raises:
        ConfigError: when called, if a value does not fit its annotation; the message names argument, value and rule.

    Example:
        >>> from pydantic import PositiveFloat
        >>> @checked
        ... def prior(scale: PositiveFloat = 1.0): return scale
        >>> prior(2)
        2.0
        >>> prior(-1)
        Traceback (most recent call last):
        pyro_dwp.errors.ConfigError: prior: scale is -1. Input should be greater than 0.
    """
    signature = inspect.signature(function)
    owner = function.__qualname__.removesuffix(".__init__").rpartition(".<locals>.")[2] or function.__name__

    @functools.wraps(function)
    def check(*args: P.args, **kwargs: P.kwargs) -> R:
        bound = signature.bind(*args, **kwargs)
        bound.arguments |= check_values(function, bound.arguments, f"{owner}: ")
        return function(*bound.args, **bound.kwargs)

    return check


@dataclass_transform(frozen_default=True)
def checked_dataclass(cls: type[T]) -> type[T]:
    """Make a frozen dataclass whose constructor is `checked`; rules that relate fields go into its `__post_init__`.

    Example:
        >>> @checked_dataclass
        ... class Window:
        ...     edges: tuple[int, int] = (64, 64)
        >>> Window([32, 32])
        Window(edges=(32, 32))
    """
    made = dataclass(frozen=True)(cls)
    setattr(made, "__init__", checked(made.__init__))  # noqa: B010 (mypy forbids assigning to a method)
    return made


def check_values(function: Callable[..., Any], values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return those values of a function's plain parameters, converted to their annotations (a list to a tuple, 1 to 1.0).

    Args:
        function: with annotations.
        values: parameter → value; what is not a plain parameter is left out of the result.
        prefix: put before the name of a parameter in an error, such as "prior.".

    Raises:
        ConfigError: if a value does not fit.
    """
    model = plain_model(inspect.unwrap(function))
    given = {name: value for name, value in values.items() if name in model.model_fields}
    try:
        found = model.model_validate(given)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        hint = model.model_fields[str(problem["loc"][0])].annotation
        raise ConfigError(describe_problem(problem, hint, prefix)) from None
    return {name: getattr(found, name) for name in given}


def describe_problem(problem: ErrorDetails, hint: Any, prefix: str = "") -> str:
    """Say in one line which setting has a value that does not fit, the rule, and how to write it.

    Args:
        problem: one of pydantic's errors.
        hint: annotation of the parameter that it is about.
        prefix: put before the name of the parameter.
    """
    path = problem["loc"][:-1] if problem["type"] == "missing" else problem["loc"]  # what lacks an item, not the item
    place, value = ".".join(str(part) for part in path if part != "[key]"), problem["input"]
    place = place if place.isprintable() else ascii(place)
    line = f"{prefix}{place} is {shorten(value)}. {problem['msg']}."
    names = literals(hint)
    if problem["type"] in STRUCTURES:
        form = type_name(hint).partition(" or ")[0]
        example = re.sub(r"\|[\w|]+", "", form.replace(", ...", ""))
        example = example.replace("INT", "1").replace("FLOAT", "1.0").replace("TEXT", "a")
        line += f" Write it as {form}, on a command line in quotes: '{example}'."
    return f"{line} {suggest(value, names)}" if names and isinstance(value, str) else line


def words(value: Any) -> Any:
    """Return the words of a text, between commas and perhaps in brackets, and anything else as it is; for `BeforeValidator`.

    Example:
        >>> words("flair, t1"), words("[flair]"), words(["flair"])
        (['flair', 't1'], ['flair'], ['flair'])
    """
    if not isinstance(value, str):
        return value
    return [word.strip() for word in value.strip().strip("[]").split(",") if word.strip()]


def shorten(value: Any) -> str:
    """Return a value as text of at most 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def type_name(hint: Any) -> str:
    """Return an annotation as help and messages show it.

    Example:
        >>> type_name(tuple[int, int] | None), type_name(list[Literal["prior", "source"]]), type_name(dict[int, int])
        ('[INT, INT] or null', '[prior|source]', '{INT: INT, ...}')
    """
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return type_name(parts[0])
    if origin in UNIONS:
        return " or ".join(type_name(part) for part in parts)
    if origin is Literal:
        return "|".join(literals(hint))
    if origin is dict:
        return "{" + ": ".join(type_name(part) for part in parts) + ", ...}"
    if parts:
        return "[" + ", ".join("..." if part is Ellipsis else type_name(part) for part in parts) + "]"
    return NAMES.get(hint, "VALUE")


def literals(hint: Any) -> list[str]:
    """Return the strings that an annotation lists as literals.

    Example:
        >>> literals(Literal["weight", "kernel"] | None)
        ['weight', 'kernel']
    """
    if get_origin(hint) is Literal:
        return [value for value in get_args(hint) if isinstance(value, str)]
    return [name for part in get_args(hint) for name in literals(part)]


@functools.cache
def plain_model(function: Callable[..., Any]) -> type[BaseModel]:
    """Return a model with a field for each parameter of a function that is annotated with plain types."""
    fields: dict[str, Any] = {
        name: (strict(hint), None) for name, hint in hints_of(function).items() if name != "return" and is_plain(hint)
    }
    config = ConfigDict(extra="forbid", allow_inf_nan=False, protected_namespaces=())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Field name .* shadows")  # of a method that nothing calls, such as `json`
        return create_model(f"{function.__qualname__} settings", __config__=config, **fields)


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return a function's annotations, names in strings resolved; {} where they cannot be (types for type checkers only)."""
    try:
        return get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}


def is_plain(hint: Any) -> bool:
    """Tell whether an annotation is made of numbers, strings, paths, literals and containers of these alone."""
    origin = get_origin(hint)
    if origin is Annotated:
        return is_plain(get_args(hint)[0])
    if origin in UNIONS or origin in CONTAINERS or (inspect.isclass(origin) and issubclass(origin, CONTAINERS)):
        return all(part is Ellipsis or is_plain(part) for part in get_args(hint))
    return origin is Literal or hint in PLAIN or hint in CONTAINERS


def strict(hint: Any) -> Any:
    """Return a plain annotation that accepts neither a number as a string nor a boolean as a number."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return Annotated[(strict(parts[0]), *parts[1:])]
    if origin in UNIONS:
        return Union[tuple(strict(part) for part in parts)]  # noqa: UP007 (made at run time)
    if origin is Literal or not parts:
        return Annotated[hint, Strict()] if hint in STRICT else hint
    return origin[tuple(part if part is Ellipsis else strict(part) for part in parts)]
