"""A learned prior on disk: one safetensors file with the densities of every group, and a YAML page about it to read.

The header of NAME.safetensors says how to build each density (family, kernel shape, settings) and where it comes from;
its tensors fill them. That file alone is loaded. NAME.yaml beside it repeats the header for people.

Files of version 0.1.0 held a deep weight prior and named no family; they are read as such.
"""

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from pyro_dwp.errors import CheckpointError, ConfigError
from pyro_dwp.kernels.tensor_file import read_tensor_file, replace_file, write_tensor_file
from pyro_dwp.priors.density import KernelDensity, density_class

KIND = "kernel prior"
CURE = "Fit one with run/train_prior.py."
EDITED = "The file was written by another version, or edited."
PACKAGES = ("pyro-dwp", "torch", "pyro-ppl", "zuko")


@dataclass(frozen=True)
class StoredPrior:
    """A prior read back.

    Args:
        family: "deep_weight", "empirical", "mixture", "flow", or one of a user's own.
        densities: group → `KernelDensity`.
        metadata: JSON-able facts: provenance, licence, scores.
        path: the file.
    """

    family: str
    densities: nn.ModuleDict
    metadata: dict[str, Any]
    path: Path

    def density(self, group: str) -> KernelDensity:
        """Return the density of a group."""
        density = self.densities[group]
        assert isinstance(density, KernelDensity)  # ModuleDict has forgotten it
        return density


def save_prior(path: Path | str, densities: Mapping[str, KernelDensity], metadata: Mapping[str, Any]) -> None:
    """Write fitted densities as NAME.safetensors, and the facts about them as NAME.yaml, each in one step.

    Floating-point values are stored as float32, the precision in which priors are used.

    Args:
        path: NAME.safetensors.
        densities: group → fitted density, all of one family.
        metadata: JSON-able facts: provenance, licence, scores.

    Raises:
        ConfigError: if there is no density, or they are of several families.
    """
    path, families = Path(path), sorted({density.family for density in densities.values()})
    if len(families) != 1:
        raise ConfigError(f"A prior needs densities of one family, but received {families or 'none'}. Fit them alike.")
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
        f"{group}/{name}": tensor.float() if tensor.is_floating_point() else tensor
        for group, density in densities.items()
        for name, tensor in density.state_dict().items()
    }
    write_tensor_file(path, KIND, tensors, header)
    page = yaml.safe_dump(
        {"file": path.name, **header}, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None
    )
    replace_file(path.with_suffix(".yaml"), page.encode())


def load_prior(
    path: Path | str, expected: Mapping[str, Sequence[int]] | None = None, family: str | None = None
) -> StoredPrior:
    """Read a learned prior and check it against what it says it is, and against what is wanted.

    Args:
        path: the .safetensors file.
        expected: group → kernel shape (K, ..., K) that the network at hand needs; None checks neither.
        family: that the file must be of; None takes any.

    Raises:
        CheckpointError: if the file is missing, truncated, no prior, of another family or inconsistent, holds values that
            make no density, lacks an expected group, or was fitted to kernels of another shape.
        ConfigError: if its family needs a package that is not installed.
    """
    path = Path(path)
    tensors, header = read_tensor_file(path, KIND, CheckpointError, CURE)
    header = _with_family(header)
    found = header.get("family")
    if family is not None and found != family:
        raise CheckpointError(
            f"{path} holds a prior of family {found!r}, but one of family {family!r} was asked for. Use --prior {found} "
            f"with this file, or fit the other with run/train_prior.py --prior {family}."
        )
    densities = _build(path, header)
    _check_expected(path, densities, expected or {})
    for group, density in densities.items():
        filling = {
            name.removeprefix(f"{group}/"): tensors.pop(name) for name in list(tensors) if name.startswith(f"{group}/")
        }
        _check_template(path, group, density.state_dict(), filling)
        density.load_state_dict(filling)
        _check_values(path, group, density)
    if tensors:
        raise CheckpointError(f"{path}: tensor {next(iter(tensors))} belongs to no group of its header. {CURE}")
    return StoredPrior(str(found), nn.ModuleDict(densities), dict(header["metadata"]), path)


def _with_family(header: Mapping[str, Any]) -> dict[str, Any]:
    """Bring the header of a file of version 0.1.0 into the present form."""
    if "variant" not in header or not isinstance(header.get("groups"), list):
        return dict(header)
    settings = {name: header[name] for name in ("kernel_shape", "variant", "latent", "hidden") if name in header}
    return {**header, "family": "deep_weight", "groups": dict.fromkeys(header["groups"], settings)}


def _build(path: Path, header: Mapping[str, Any]) -> dict[str, KernelDensity]:
    """Build empty densities as the header describes them."""
    try:
        built, _ = density_class(header["family"]), dict(header["metadata"])
        if not header["groups"]:
            raise ValueError("it names no group of kernels")
    except (KeyError, TypeError, ValueError) as problem:
        raise _undescribed(path, problem) from problem
    built.check_installed()
    try:
        return {group: built(**settings) for group, settings in header["groups"].items()}
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as problem:
        raise _undescribed(path, problem) from problem


def _undescribed(path: Path, problem: Exception) -> CheckpointError:
    return CheckpointError(f"The header of {path} does not describe a kernel prior: {problem}. {CURE}")


def _check_expected(path: Path, densities: Mapping[str, KernelDensity], expected: Mapping[str, Sequence[int]]) -> None:
    if missing := [group for group in expected if group not in densities]:
        raise CheckpointError(
            f"The network has kernels of group(s) {', '.join(missing)}, but the prior {path} was fitted for groups "
            f"{', '.join(densities)}. Fit a prior to networks of this architecture with run/train_prior.py."
        )
    for group, wanted in expected.items():
        if torch.Size(wanted) != (shape := densities[group].kernel_shape):
            raise CheckpointError(
                f"Group {group!r} of the network has kernels of shape {tuple(wanted)}, but the prior {path} was fitted "
                f"to kernels of shape {tuple(shape)}. Fit a prior to such kernels with run/train_prior.py."
            )


def _check_template(path: Path, group: str, template: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    for name in sorted(template.keys() | found.keys()):
        wanted = tuple(template[name].shape) if name in template else "absent"
        got = tuple(found[name].shape) if name in found else "absent"
        if wanted != got:
            raise CheckpointError(
                f"{path}: tensor {group}/{name} should be {wanted} by the file's own header, but is {got}. {EDITED} "
                f"{CURE}"
            )
        kept = template[name].dtype
        if _numbers(found[name].dtype) != _numbers(kept):
            raise CheckpointError(
                f"{path}: tensor {group}/{name} should hold {_numbers(kept)} numbers, such as {kept}, but is of "
                f"{found[name].dtype}. {EDITED} {CURE}"
            )
        if not found[name].to(kept).isfinite().all():
            raise CheckpointError(f"{path}: tensor {group}/{name} holds values that are not finite in {kept}. {CURE}")


def _numbers(dtype: torch.dtype) -> str:
    """Name the kind of number, within which a file may be of another precision."""
    if dtype == torch.bool:
        return "boolean"
    return "floating-point" if dtype.is_floating_point else "complex" if dtype.is_complex else "whole"


def _check_values(path: Path, group: str, density: KernelDensity) -> None:
    try:
        density.check()
    except ValueError as problem:
        raise CheckpointError(f"{path}: in group {group!r}, {problem} {EDITED} {CURE}") from problem


def _versions() -> dict[str, str]:
    installed = {}
    for package in PACKAGES:
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed
