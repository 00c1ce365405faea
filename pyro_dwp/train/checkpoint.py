"""The state of a training in one file: weights, optimiser, random numbers and a JSON of everything else.

`checkpoint/last.safetensors` is replaced atomically, so whoever reads it, and whoever kills the writer, sees either
the former state or the next, never half of one. Nothing is pickled. Reading goes against a template: the modules and
the optimiser that will receive the values, and a difference names the parameter, both shapes, the file and the cure.

Keys in the file: `modules/<module>/<parameter>`, `optimiser/<group>/<index>/<quantity>`, `random/cpu`,
`random/cuda/<device>`; the JSON is the header's entry `state`.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from torch.optim import Optimizer

from pyro_dwp.errors import CheckpointError, suggest

FILE = Path("checkpoint") / "last.safetensors"
FORMAT = 1
IMPLEMENTATION = ("fused", "foreach", "capturable", "differentiable")


def save(folder: Path, modules: Mapping[str, nn.Module], optimiser: Optimizer, state: Mapping[str, Any]) -> Path:
    """Replace the checkpoint of a run by the present state, the global random numbers of torch included.

    Args:
        folder: of the run; the file is `checkpoint/last.safetensors` in it.
        modules: name → module whose `state_dict` is kept.
        optimiser: whose state and settings are kept, bit for bit.
        state: anything else, as JSON; floats survive exactly.

    Returns:
        The file.
    """
    tensors = {
        f"modules/{name}/{key}": value
        for name, module in modules.items()
        for key, value in module.state_dict().items()
        if isinstance(value, Tensor)
    }
    tensors |= _optimiser_tensors(optimiser) | _random_state()
    header = {"format": FORMAT, "optimiser": _settings(optimiser), "state": dict(state)}
    content = to_bytes(
        {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()},
        metadata={"state": json.dumps(header)},
    )
    return _replace(Path(folder) / FILE, content)


def load(folder: Path, modules: Mapping[str, nn.Module], optimiser: Optimizer) -> dict[str, Any]:
    """Put a run's last checkpoint into modules, optimiser and torch's random numbers, and return the rest.

    Everything is compared before anything is changed.

    Args:
        folder: of the run.
        modules: the same modules, built with the same settings.
        optimiser: over the same parameters in the same groups.

    Returns:
        The `state` that was saved.

    Raises:
        CheckpointError: if there is no checkpoint, it cannot be read, or it belongs to other modules or groups.
    """
    path = Path(folder) / FILE
    header, tensors = _read(path)
    for name, module in modules.items():
        _compare(path, name, module, _under(tensors, f"modules/{name}/"))
    _compare_groups(path, optimiser, header["optimiser"])
    for name, module in modules.items():
        _fill(module, _under(tensors, f"modules/{name}/"))
    _fill_optimiser(optimiser, header["optimiser"], _under(tensors, "optimiser/"))
    _restore_random(tensors)
    return header["state"]


def load_module(folder: Path, name: str, module: nn.Module) -> nn.Module:
    """Put one module of a run's last checkpoint into a module built with the same settings, and return it.

    Raises:
        CheckpointError: as `load` does, and if the run has no module of that name.
    """
    path = Path(folder) / FILE
    _, tensors = _read(path)
    stored = {key.split("/")[1] for key in tensors if key.startswith("modules/")}
    if name not in stored and module.state_dict():  # a module without tensors leaves no trace
        raise CheckpointError(f"{path} holds no module {name!r}. {suggest(name, stored)}")
    found = _under(tensors, f"modules/{name}/")
    _compare(path, name, module, found)
    _fill(module, found)
    return module


def peek(folder: Path) -> dict[str, Any] | None:
    """Return the JSON state of a run's last checkpoint, or None where the run has none."""
    path = Path(folder) / FILE
    return _read(path, tensors=False)[0]["state"] if path.exists() else None


def _replace(path: Path, content: bytes) -> Path:
    """Write beside the file, flush to the disk, and swap: atomic on every file system that Python's `os` covers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".tmp")
    with open(beside, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
    if os.name == "posix":
        directory = os.open(path.parent, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)
    return path


def _read(path: Path, tensors: bool = True) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.exists():
        raise CheckpointError(f"There is no checkpoint {path}. Check the run's folder, or train first.")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["state"])
            found = {key: file.get_tensor(key) for key in file.keys()} if tensors else {}  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint ({error}). It was damaged or written by another program: "
            "restore a copy, or start the run again with --overwrite."
        ) from error
    if header.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} has checkpoint format {header.get('format')}, this version reads format {FORMAT}. Use the version "
            "of pyro_dwp that wrote it (config.yaml of the run names it)."
        )
    return header, found


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}


def _compare(path: Path, name: str, module: nn.Module, found: Mapping[str, Tensor]) -> None:
    """Raise for the first parameter, in the order of the module, that the file lacks or has in another shape."""
    cure = "Build the module with the settings of the run (config.yaml beside it), or choose the run that fits."
    wanted = {key: value for key, value in module.state_dict().items() if isinstance(value, Tensor)}
    for key, value in wanted.items():
        if key not in found:
            raise CheckpointError(
                f"{path}: {name} has a parameter {key!r} of shape {tuple(value.shape)}, which the file lacks. {cure}"
            )
        if found[key].shape != value.shape or found[key].dtype != value.dtype:
            raise CheckpointError(
                f"{path}: parameter {key!r} of {name} is {value.dtype} of shape {tuple(value.shape)} here but "
                f"{found[key].dtype} of shape {tuple(found[key].shape)} in the checkpoint. {cure}"
            )
    for key in sorted(set(found) - set(wanted)):
        raise CheckpointError(
            f"{path}: the file holds {key!r} of shape {tuple(found[key].shape)}, which {name} does not have. {cure}"
        )


def _fill(module: nn.Module, found: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for key, value in module.state_dict().items():
            if isinstance(value, Tensor):
                value.copy_(found[key])


def _settings(optimiser: Optimizer) -> list[dict[str, Any]]:
    """Describe each group for the header: its settings, its parameters' shapes, and such state as is no tensor."""
    return [
        {
            "settings": {key: value for key, value in group.items() if key != "params"},
            "shapes": [list(parameter.shape) for parameter in group["params"]],
            "scalars": [
                {key: value for key, value in optimiser.state.get(p, {}).items() if not isinstance(value, Tensor)}
                for p in group["params"]
            ],
        }
        for group in optimiser.param_groups
    ]


def _optimiser_tensors(optimiser: Optimizer) -> dict[str, Tensor]:
    return {
        f"optimiser/{number}/{index}/{key}": value
        for number, group in enumerate(optimiser.param_groups)
        for index, parameter in enumerate(group["params"])
        for key, value in optimiser.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def _compare_groups(path: Path, optimiser: Optimizer, stored: list[dict[str, Any]]) -> None:
    here = [[list(parameter.shape) for parameter in group["params"]] for group in optimiser.param_groups]
    there = [group["shapes"] for group in stored]
    if here != there:
        raise CheckpointError(
            f"{path}: the optimiser trains {[len(group) for group in here]} parameters per group here and "
            f"{[len(group) for group in there]} in the checkpoint, or they differ in shape. Resume with the settings "
            "of the run (config.yaml beside it)."
        )


def _fill_optimiser(optimiser: Optimizer, stored: list[dict[str, Any]], tensors: Mapping[str, Tensor]) -> None:
    """Load state and settings; how torch computes (`fused`, `foreach`, ...) stays as this machine chose it."""
    groups, state, first = [], {}, 0
    for number, (group, kept) in enumerate(zip(optimiser.param_groups, stored, strict=True)):
        settings = {key: value for key, value in kept["settings"].items() if key not in IMPLEMENTATION}
        for key, value in settings.items():
            settings[key] = tuple(value) if isinstance(value, list) else value
        indices = range(first, first + len(group["params"]))
        groups.append({key: value for key, value in group.items() if key != "params"} | settings | {"params": indices})
        for index, parameter in enumerate(group["params"]):
            found = _under(tensors, f"{number}/{index}/")
            entry = {key: _like(parameter, value) for key, value in found.items()} | kept["scalars"][index]
            if entry:
                state[first + index] = entry
        first = indices.stop
    optimiser.load_state_dict({"state": state, "param_groups": groups})


def _like(parameter: Tensor, value: Tensor) -> Tensor:
    """Copy a tensor into the parameter's memory layout; what has no layout, such as `step`, torch itself moves."""
    same = value.dim() > 0 and value.shape == parameter.shape
    return torch.empty_like(parameter).copy_(value) if same else value.clone()


def _random_state() -> dict[str, Tensor]:
    states = {"random/cpu": torch.get_rng_state()}
    if torch.cuda.is_initialized():
        states |= {f"random/cuda/{i}": value for i, value in enumerate(torch.cuda.get_rng_state_all())}
    return states


def _restore_random(tensors: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(tensors["random/cpu"])
    devices = torch.cuda.device_count()
    for key, value in _under(tensors, "random/cuda/").items():
        if int(key) < devices:
            torch.cuda.set_rng_state(value, int(key))
