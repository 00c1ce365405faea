"""A learned prior on disk: one safetensors file with the densities of every group, and a YAML page that describes it.

The header of NAME.safetensors says how to build each density (family, kernel shape, settings) and where it comes from;
its tensors fill them. Only that file is loaded. NAME.yaml beside it repeats the header for people.
"""

import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import yaml
from annotated_types import MinLen
from pydantic import BaseModel
from torch import Tensor

from pyro_dwp.errors import CheckpointError, ConfigError
from pyro_dwp.files import check_finite, check_header, check_tensors, read_tensors, write_tensors, write_text
from pyro_dwp.priors.density import GroupDensity, density_class
from pyro_dwp.sites import module_key

KIND = "kernel prior"
CURE = "Fit one with run/train_prior.py."
EDITED = f"The file was written by another version, or edited. {CURE}"
PACKAGES = ("pyro-dwp", "torch", "pyro-ppl", "zuko")


class Bank(BaseModel, extra="allow"):
    """The facts about the bank of a prior that the library uses."""

    layers: dict[str, list[str]] = {}


class Metadata(BaseModel, extra="allow"):
    """The part of a prior's metadata that the library uses."""

    bank: Bank = Bank()


class Header(BaseModel):
    """The part of a file's header that the library uses."""

    family: str
    groups: Annotated[dict[str, dict[str, Any]], MinLen(1)]
    metadata: Metadata


@dataclass(frozen=True)
class StoredPrior:
    """A prior read back.

    Args:
        family: "deep_weight", "empirical", "mixture", "flow", or one of a user's own.
        densities: group → density.
        metadata: JSON-able facts: provenance, licence, scores.
        layers: group → names of the weights that it was fitted to; {} if not recorded.
        path: the file.
    """

    family: str
    densities: dict[str, GroupDensity]
    metadata: dict[str, Any]
    layers: dict[str, list[str]]
    path: Path


def save_prior(path: Path | str, densities: Mapping[str, GroupDensity], metadata: Mapping[str, Any]) -> None:
    """Write fitted densities as NAME.safetensors, and the facts about them as NAME.yaml, each atomically.

    Floating-point values are stored as float32, the precision in which priors are used.

    Args:
        path: NAME.safetensors.
        densities: group → fitted density, all of one family. A group may have any name.
        metadata: JSON-able facts: provenance, licence, scores.

    Raises:
        ConfigError: if there is no density, or they are of several families.
    """
    path, families = Path(path), sorted({density.family for density in densities.values()})
    if len(families) != 1:
        raise ConfigError(
            f"A prior needs densities of one family, but received {families or 'none'}. Fit all groups alike."
        )
    header = {
        "family": families[0],
        "groups": {
            group: {"kernel_shape": list(density.kernel_shape), **density.settings}
            for group, density in densities.items()
        },
        "versions": _versions(),
        "metadata": dict(metadata),
    }
    tensors = {
        f"{module_key(group)}/{name}": tensor.float() if tensor.is_floating_point() else tensor
        for group, density in densities.items()
        for name, tensor in density.state_dict().items()
    }
    write_tensors(path, KIND, tensors, header)
    page = {"file": path.name, **header}
    write_text(
        path.with_suffix(".yaml"),
        yaml.safe_dump(page, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None),
    )


def load_prior(path: Path | str, family: str | None = None) -> StoredPrior:
    """Read a learned prior and check it against its own header.

    The tensors are compared with empty densities that take no memory before real ones are built.

    Args:
        path: the .safetensors file.
        family: that the file must be of; None takes any.

    Raises:
        CheckpointError: if the file is missing, truncated, not a prior, of another family or inconsistent, or holds values that
            do not make a density.
        ConfigError: if its family needs a package that is not installed.
    """
    path = Path(path)
    tensors, found = read_tensors(path, KIND, CURE)
    header = check_header(Header, found, f"The header of {path}", CURE)
    if family is not None and header.family != family:
        raise CheckpointError(
            f"{path} holds a prior of family {header.family!r}, but one of family {family!r} was asked for. Use --prior "
            f"{header.family} with this file, or fit the other with run/train_prior.py --family {family}."
        )
    builders = _builders(path, header)
    densities = {}
    for group, build in builders.items():
        prefix = f"{module_key(group)}/"
        filling = {name.removeprefix(prefix): tensors.pop(name) for name in list(tensors) if name.startswith(prefix)}
        densities[group] = _fill(f"{path}, group {group!r}", build, filling)
    if tensors:
        raise CheckpointError(f"{path}: tensor {next(iter(tensors))!r} belongs to no group of its header. {EDITED}")
    return StoredPrior(header.family, densities, dict(found["metadata"]), header.metadata.bank.layers, path)


def _builders(path: Path, header: Header) -> dict[str, Callable[[], GroupDensity]]:
    """Return, for each group, what builds an empty density as the header describes it."""

    def builder(group: str, settings: dict[str, Any]) -> Callable[[], GroupDensity]:
        def build() -> GroupDensity:
            try:
                return density(**settings)
            except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as problem:
                raise CheckpointError(
                    f"The header of {path} does not describe a density of group {group!r}: {problem} {EDITED}"
                ) from problem

        return build

    try:
        density = density_class(header.family)
    except ConfigError as problem:
        raise CheckpointError(f"The header of {path} names no family: {problem} {CURE}") from problem
    density.check_installed()
    return {group: builder(group, settings) for group, settings in header.groups.items()}


def _fill(where: str, build: Callable[[], GroupDensity], tensors: Mapping[str, Tensor]) -> GroupDensity:
    """Return a density that holds these tensors, checked; it is built only if they fit."""
    template = _template(build)
    check_tensors(tensors, template, where, EDITED)
    converted = {name: tensor.to(template[name].dtype) for name, tensor in tensors.items()}
    check_finite(converted, where, CURE)
    density = build()
    density.load_state_dict(converted)
    try:
        density.check()
        _try(density)
    except ValueError as problem:
        reason = str(problem).partition("\n")[0].rstrip(".:")  # torch lists every value below it
        raise CheckpointError(f"{where}: {reason}. {EDITED}") from problem
    return density


def _try(density: GroupDensity) -> None:
    """Raise ValueError unless kernels can be drawn and, where the distribution is exact, have a density."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        distribution = density.distribution()
        kernels = distribution.sample((2,))
        if not kernels.isfinite().all() or (density.exact and not distribution.log_prob(kernels).isfinite().all()):
            raise ValueError(
                "its values are so extreme that kernels drawn from it, or their densities, are not finite."
            )


def _template(build: Callable[[], GroupDensity]) -> dict[str, Tensor]:
    """Return the state of an empty density, on the meta device if its constructor allows that."""
    try:
        with torch.device("meta"):
            return build().state_dict()
    except (CheckpointError, RuntimeError):  # a constructor may need values, which this device does not have
        with torch.random.fork_rng(devices=[]):
            return build().state_dict()


def _versions() -> dict[str, str]:
    installed = {}
    for package in PACKAGES:
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed
