"""A fitted deep weight prior on disk: one safetensors file with the coders of every group and their provenance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pyro_dwp.errors import CheckpointError, ConfigError
from pyro_dwp.kernels.tensor_file import read_tensor_file, write_tensor_file
from pyro_dwp.nn.kernel_coders import build_coders

KIND = "kernel prior"
CURE = "Fit one with run/train_prior.py."
SHIPPED = Path(__file__).parents[1] / "assets" / "hippocampus.safetensors"
SETTINGS = ("variant", "kernel_shape", "latent", "hidden")


@dataclass(frozen=True)
class StoredPrior:
    """A prior read back.

    Args:
        coders: group → `KernelCoders`, an encoder and a decoder.
        kernel_shape: (K, ..., K), of every group.
        latent: L.
        variant: "paper" or "dense".
        metadata: JSON-able facts: provenance, licence, scores.
        path: the file.
    """

    coders: nn.ModuleDict
    kernel_shape: torch.Size
    latent: int
    variant: str
    metadata: dict[str, Any]
    path: Path


def save_prior(
    path: Path | str,
    coders: Mapping[str, nn.Module],
    *,
    variant: str,
    kernel_shape: Sequence[int],
    latent: int,
    hidden: int,
    metadata: Mapping[str, Any],
) -> None:
    """Write fitted coders as one .safetensors file.

    Args:
        path: where to.
        coders: group → module whose `encoder` and `decoder` were made by `build_coders` with the settings below.
        variant: "paper" or "dense".
        kernel_shape: (K, ..., K), of every group.
        latent: L.
        hidden: width of the hidden layers, for "dense".
        metadata: JSON-able facts: provenance, licence, scores.
    """
    tensors = {
        f"{group}/{half}.{name}": tensor
        for group, module in coders.items()
        for half in ("encoder", "decoder")
        for name, tensor in module.get_submodule(half).state_dict().items()
    }
    settings = {"variant": variant, "kernel_shape": list(kernel_shape), "latent": latent, "hidden": hidden}
    write_tensor_file(path, KIND, tensors, {**settings, "groups": list(coders), "metadata": dict(metadata)})


def load_prior(path: Path | str | None = None, expected: Mapping[str, Sequence[int]] | None = None) -> StoredPrior:
    """Read a fitted prior and check it against what it says it is, and against what is wanted.

    Args:
        path: the file; None takes the prior that ships with the package.
        expected: group → kernel shape (K, ..., K) that the network at hand needs; None checks neither.

    Raises:
        CheckpointError: if the file is missing, truncated, no prior or inconsistent, lacks an expected group, or was
            fitted to kernels of another shape.
    """
    path = Path(path) if path is not None else SHIPPED
    tensors, header = read_tensor_file(path, KIND, CheckpointError, CURE)
    try:
        variant, shape, latent, hidden = (header[name] for name in SETTINGS)
        groups, metadata = list(header["groups"]), dict(header["metadata"])
        coders = nn.ModuleDict(
            {group: build_coders(variant, shape, latent, hidden=hidden) for group in groups},
        )
    except (KeyError, TypeError, ConfigError) as problem:
        raise CheckpointError(f"The header of {path} does not describe a kernel prior: {problem}. {CURE}") from problem
    _check_expected(path, groups, torch.Size(shape), expected or {})
    for group in groups:
        found = {name.removeprefix(f"{group}/"): t for name, t in tensors.items() if name.startswith(f"{group}/")}
        _check_template(path, group, coders[group].state_dict(), found)
        coders[group].load_state_dict(found)
    return StoredPrior(coders, torch.Size(shape), latent, variant, metadata, path)


def _check_expected(path: Path, groups: list[str], shape: torch.Size, expected: Mapping[str, Sequence[int]]) -> None:
    if missing := [group for group in expected if group not in groups]:
        raise CheckpointError(
            f"The network has kernels of group(s) {', '.join(missing)}, but the prior {path} was fitted for groups "
            f"{', '.join(groups)}. Fit a prior to networks of this architecture with run/train_prior.py."
        )
    for group, wanted in expected.items():
        if torch.Size(wanted) != shape:
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
                f"{path}: tensor {group}/{name} should be {wanted} by the file's own header, but is {got}. The file "
                f"was written by another version, or edited. {CURE}"
            )
