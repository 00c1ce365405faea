"""The entries of an experiment's config: methods, jobs shared between them, further scores of what they trained."""

from collections.abc import Collection, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from pydantic import PositiveInt

from pyro_dwp.checks import checked_dataclass
from pyro_dwp.errors import ConfigError, suggest
from pyro_dwp.runs.script import find_config
from pyro_dwp.settings import instantiate, merge
from pyro_dwp.settings.tree import Tree

Entry = TypeVar("Entry")


@checked_dataclass
class Members:
    """Jobs of another method, at the same number of scans and the same split, that make an ensemble.

    Args:
        method: name of the other method.
        seeds: number of members; member k of seed j has seed j × seeds + k.
    """

    method: str
    seeds: PositiveInt


@checked_dataclass
class Method:
    """How a method is run, apart from the settings of its script.

    Args:
        script: in run/; it must know the settings `train`, `split_seed` and `seed`, or `runs` if it has members.
        base: config in run/configs/methods/ that the settings change; None for none.
        members: runs that the script is given as its setting `runs`; None for a script that trains by itself.
    """

    script: str = "svi_target"
    base: str | None = None
    members: Members | None = None


@checked_dataclass
class Step:
    """How a shared job, or a further score, is run, apart from the settings of its script.

    Args:
        script: in run/.
        config: of the script, a file or a name in run/configs/; None if the settings are complete without.
    """

    script: str
    config: str | None = None


def read_method(name: str, given: Mapping[str, Any] | None, configs: Path) -> tuple[Method, dict[Path, Tree]]:
    """Read one entry of `methods`.

    Args:
        name: of the method.
        given: its settings; None stands for the config of the method's own name.
        configs: folder of configs.

    Returns:
        How it is run, and its layers of settings.

    Raises:
        ConfigError: if there is no such config, or an entry does not fit.
    """
    place = Path(f"methods.{name}")
    layers = {place: {"base": name} if given is None else dict(given)}
    if base := take(Method, layers, str(place)).base:
        layers = dict([find_config(base, configs / "methods")]) | layers
    return take(Method, layers, str(place)), {path: rest(layer, Method) for path, layer in layers.items()}


def read_step(place: str, given: Mapping[str, Any], configs: Path) -> tuple[Step, dict[Path, Tree]]:
    """Read one entry of `shared` or `scores`, named as in `shared.source`; see `read_method`."""
    step = take(Step, {Path(place): dict(given)}, place)
    files = dict([find_config(step.config, configs)]) if step.config else {}
    return step, files | {Path(place): rest(given, Step)}


def take(kind: type[Entry], layers: Mapping[Path, Tree], where: str) -> Entry:
    """Build a dataclass from those settings that are its fields; later layers win."""
    names, tree = {field.name for field in fields(kind)}, Tree()  # type: ignore[arg-type]
    for layer in layers.values():
        tree = merge(tree, {key: value for key, value in layer.items() if key in names})
    built: Entry = instantiate(kind, tree, where)
    return built


def rest(layer: Mapping[str, Any], kind: type) -> Tree:
    """Return the settings of a layer that are not fields of a dataclass."""
    return {key: value for key, value in layer.items() if key not in {field.name for field in fields(kind)}}


def one_of(name: str, legal: Collection[str], what: str) -> str:
    """Return a name that must be one of several.

    Args:
        name: to check.
        legal: names that there are.
        what: what it names, such as "reference"; the error begins with it.

    Raises:
        ConfigError: listing the names.
    """
    if name not in legal:
        raise ConfigError(f"{what} is {name!r}, which is none of them. {suggest(name, legal)}")
    return name
