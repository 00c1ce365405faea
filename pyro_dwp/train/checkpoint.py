"""The state of a training in one file: weights, optimiser, random numbers and a JSON of everything else.

`checkpoint/last.safetensors` is replaced atomically, so that a killed run leaves its former state or the next one, never half of
either. Nothing is pickled. What is read is compared with the modules and the optimiser that will receive it; an error names the
parameter, what was expected, what was found, the file and the cure.

Keys in the file: `modules/<module>/<parameter>`, `optimiser/<group>/<index>/<quantity>`, `random/cpu`, `random/cuda/<device>`.
The header holds the rest as JSON, including what modules return from torch's `get_extra_state`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor, nn
from torch.optim import Optimizer

from pyro_dwp.errors import CheckpointError, suggest
from pyro_dwp.files import check_finite, check_header, check_tensors, read_tensors, write_tensors

FILE = Path("checkpoint") / "last.safetensors"
KIND = "checkpoint"
FORMAT = 3
IMPLEMENTATION = ("fused", "foreach", "capturable", "differentiable")
EXTRA = "_extra_state"
DAMAGED = (
    "It was damaged, or written by another program or version: restore a copy, or start the run again with --overwrite."
)
REBUILD = "Build the module with the settings of the run (config.yaml beside it), or choose the run that fits."


class Group(BaseModel):
    """A group of parameters of the optimiser: its settings, the parameters' shapes, and their state other than tensors."""

    settings: dict[str, Any]
    shapes: list[list[int]]
    scalars: list[dict[str, float]]


class Header(BaseModel):
    """The JSON in a checkpoint; `extras` has "<module>/<key>" → extra state."""

    format: int
    optimiser: list[Group]
    extras: dict[str, Any]
    state: dict[str, Any]


def save(folder: Path, modules: Mapping[str, nn.Module], optimiser: Optimizer, state: Mapping[str, Any]) -> Path:
    """Replace the checkpoint of a run by the current state, including torch's global random numbers.

    Args:
        folder: of the run; the file is `checkpoint/last.safetensors` in it.
        modules: name → module whose `state_dict` is kept; an extra state in it must be JSON-able.
        optimiser: its state and settings are kept, bit for bit.
        state: anything else, as JSON; floats survive exactly.

    Returns:
        The file.
    """
    entries = {f"{name}/{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    tensors = {f"modules/{key}": value for key, value in entries.items() if isinstance(value, Tensor)}
    extras = {key: value for key, value in entries.items() if not isinstance(value, Tensor)}
    tensors |= _optimiser_tensors(optimiser) | _random_state()
    header = {"format": FORMAT, "optimiser": _describe(optimiser), "extras": extras, "state": dict(state)}
    return write_tensors(Path(folder) / FILE, KIND, tensors, header)


def load(folder: Path, modules: Mapping[str, nn.Module], optimiser: Optimizer) -> dict[str, Any]:
    """Put a run's last checkpoint into modules, optimiser and torch's random numbers, and return the rest.

    Extra states are set first; then all tensors are compared before any is changed.

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
        _prepare(path, name, module, header, tensors)
    _compare_groups(path, optimiser, header.optimiser, tensors)
    for name, module in modules.items():
        _fill(module, _under(tensors, f"modules/{name}/"))
    _fill_optimiser(optimiser, header.optimiser, _under(tensors, "optimiser/"))
    _restore_random(path, tensors)
    return header.state


def load_module(folder: Path, name: str, module: nn.Module) -> nn.Module:
    """Put one module of a run's last checkpoint into a module built with the same settings, and return it.

    Args:
        folder: of the run.
        name: of the module in the checkpoint.
        module: filled in place.

    Raises:
        CheckpointError: as `load` does, and if the run has no module of that name.
    """
    path = Path(folder) / FILE
    header, tensors = _read(path)
    stored = {key.split("/")[1] for key in tensors if key.startswith("modules/")}
    stored |= {key.split("/")[0] for key in header.extras}
    if name not in stored and module.state_dict():  # a module without state leaves no trace
        raise CheckpointError(f"{path} holds no module {name!r}. {suggest(name, stored)}")
    _prepare(path, name, module, header, tensors)
    _fill(module, _under(tensors, f"modules/{name}/"))
    return module


def peek(folder: Path) -> dict[str, Any] | None:
    """Return the JSON state of a run's last checkpoint, or None if the run has none."""
    path = Path(folder) / FILE
    return _read(path, header_only=True)[0].state if path.exists() else None


def _read(path: Path, header_only: bool = False) -> tuple[Header, dict[str, Tensor]]:
    if not path.exists():
        raise CheckpointError(f"There is no checkpoint {path}. Check the run's folder, or train first.")
    tensors, found = read_tensors(path, KIND, DAMAGED, header_only=header_only)
    if found.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} has checkpoint format {found.get('format')!r}, but this version reads {FORMAT}. {DAMAGED}"
        )
    return check_header(Header, found, f"The header of {path}", DAMAGED), tensors


def _under(entries: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {key[len(prefix) :]: value for key, value in entries.items() if key.startswith(prefix)}


def _prepare(path: Path, name: str, module: nn.Module, header: Header, tensors: Mapping[str, Tensor]) -> None:
    """Set a module's extra states, then compare its tensors with those of the file."""
    where, stored = f"{path}, module {name!r}", _under(header.extras, f"{name}/")
    for key, value in stored.items():
        try:
            module.get_submodule(key.removesuffix(EXTRA).rstrip(".")).set_extra_state(value)
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as problem:
            raise CheckpointError(f"{where}: the extra state {key!r} does not fit ({problem}). {REBUILD}") from problem
    state = module.state_dict()
    extras = {key for key, value in state.items() if not isinstance(value, Tensor)}
    if extras != stored.keys():
        key = min(extras ^ stored.keys())
        raise CheckpointError(f"{where}: the extra state {key!r} is in only one of file and module. {REBUILD}")
    wanted = {key: value for key, value in state.items() if key not in extras}
    found = _under(tensors, f"modules/{name}/")
    check_tensors(found, wanted, where, REBUILD)
    check_finite(found, where, DAMAGED)


def _fill(module: nn.Module, found: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for key, value in module.state_dict().items():
            if isinstance(value, Tensor):
                value.copy_(found[key])


def _describe(optimiser: Optimizer) -> list[dict[str, Any]]:
    """Return the header's entry for each group, see `Group`."""
    return [
        {
            "settings": {key: value for key, value in group.items() if key != "params"},
            "shapes": [list(parameter.shape) for parameter in group["params"]],
            "scalars": [
                {key: value for key, value in optimiser.state.get(p, {}).items() if isinstance(value, int | float)}
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


def _compare_groups(path: Path, optimiser: Optimizer, stored: list[Group], tensors: Mapping[str, Tensor]) -> None:
    """Refuse groups of other parameters, and a state or settings of another kind than the optimiser's."""
    here = [[list(parameter.shape) for parameter in group["params"]] for group in optimiser.param_groups]
    if here != [group.shapes for group in stored] or any(len(g.shapes) != len(g.scalars) for g in stored):
        raise CheckpointError(
            f"{path}: the optimiser trains {[len(group) for group in here]} parameters per group here and "
            f"{[len(group.shapes) for group in stored]} in the checkpoint, or they differ in shape. Resume with the settings "
            "of the run (config.yaml beside it)."
        )
    for number, (group, kept) in enumerate(zip(optimiser.param_groups, stored, strict=True)):
        for key, value in kept.settings.items():
            if isinstance(group.get(key), int | float) and not isinstance(value, int | float):
                raise CheckpointError(f"{path}: the optimiser's setting {key!r} is {value!r}, not a number. {DAMAGED}")
        for index, shape in enumerate(kept.shapes):
            found = _under(tensors, f"optimiser/{number}/{index}/")
            check_finite(found, f"{path}, state of the optimiser", DAMAGED)
            for key, value in found.items():
                if not value.is_floating_point() or list(value.shape) not in (shape, []):
                    raise CheckpointError(f"{path}: the optimiser's {key!r} does not fit its parameter. {DAMAGED}")


def _fill_optimiser(optimiser: Optimizer, stored: list[Group], tensors: Mapping[str, Tensor]) -> None:
    """Load state and settings; how torch computes (`fused`, `foreach`, ...) stays as this machine chose it."""
    groups, state, first = [], {}, 0
    for number, (group, kept) in enumerate(zip(optimiser.param_groups, stored, strict=True)):
        settings = {key: value for key, value in kept.settings.items() if key not in IMPLEMENTATION}
        settings = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
        indices = range(first, first + len(group["params"]))
        groups.append({key: value for key, value in group.items() if key != "params"} | settings | {"params": indices})
        for index, parameter in enumerate(group["params"]):
            found = _under(tensors, f"{number}/{index}/")
            entry = {key: _like(parameter, value) for key, value in found.items()} | kept.scalars[index]
            if entry:
                state[first + index] = entry
        first = indices.stop
    optimiser.load_state_dict({"state": state, "param_groups": groups})


def _like(parameter: Tensor, value: Tensor) -> Tensor:
    """Copy a tensor into the parameter's memory layout; what has no layout, such as `step`, torch moves itself."""
    same = value.dim() > 0 and value.shape == parameter.shape
    return torch.empty_like(parameter).copy_(value) if same else value.clone()


def _random_state() -> dict[str, Tensor]:
    states = {"random/cpu": torch.get_rng_state()}
    if torch.cuda.is_initialized():
        states |= {f"random/cuda/{i}": value for i, value in enumerate(torch.cuda.get_rng_state_all())}
    return states


def _restore_random(path: Path, tensors: Mapping[str, Tensor]) -> None:
    try:
        torch.set_rng_state(tensors["random/cpu"])
        for key, value in _under(tensors, "random/cuda/").items():
            if int(key) < torch.cuda.device_count():
                torch.cuda.set_rng_state(value, int(key))
    except (KeyError, TypeError, ValueError, RuntimeError) as problem:
        raise CheckpointError(
            f"{path}: the state of the random numbers does not fit ({problem}). {DAMAGED}"
        ) from problem
