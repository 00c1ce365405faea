"""One torch Adam for all parameters of a variational program, in named groups, driven by `pyro.infer.SVI`.

Pyro's own optimisers make one torch optimiser per tensor. Here a single one holds every group (θ of the guide, ψ of
the auxiliary encoder, ...), so that clipping, schedules and checkpoints work as in plain torch, and SVI still drives.
"""

import math
import weakref
from collections.abc import Iterable, Mapping, Sequence

import torch
from pyro.optim import PyroOptim
from torch import Tensor, nn

from pyro_dwp.errors import ConfigError


class JointAdam(PyroOptim):
    """Adam over named groups of modules, each with its own learning rate, as one torch optimiser.

    Every parameter of the modules is updated when it has a gradient, whether or not SVI captured it in this step; a
    parameter that SVI captured and no group holds is an error rather than a weight that silently never moves.

    *Warning*: the parameters receive Pyro's `unconstrained` handle, a weak reference; `copy.deepcopy` of a module
    drops it, pickling a parameter fails on it. State is kept with `state_dict`, never with pickle.

    Args:
        groups: group name → modules whose parameters it trains, e.g. `{"theta": [guide], "psi": [encoder]}`. A
            parameter that several groups reach belongs to the first. Groups without parameters are left out.
        rates: group name → learning rate at the start, per step; dimensionless. One number serves all groups.
        clip_norm: largest L2 norm of each group's gradient, in units of loss per unit of parameter; None clips nothing.
        weight_decay: L2 penalty added to the gradient (coupled, as in `torch.optim.Adam`), per unit of parameter.

    Attributes:
        optimiser: the torch optimiser; `optimiser.param_groups[i]["name"]` is the group's name.

    Raises:
        ConfigError: if a group has no rate, a rate no group, a number is outside its range, or there is nothing to train.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> adam = JointAdam({"theta": [layer]}, rates={"theta": 1e-3})
        >>> [group["name"] for group in adam.optimiser.param_groups]
        ['theta']
    """

    def __init__(
        self,
        groups: Mapping[str, Sequence[nn.Module]],
        rates: Mapping[str, float] | float,
        clip_norm: float | None = None,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(torch.optim.Adam, {})
        rates = rates if isinstance(rates, Mapping) else dict.fromkeys(groups, rates)
        if set(groups) != set(rates):
            raise ConfigError(
                "Every group needs a rate of the same name, but the groups are "
                f"{sorted(groups)} and the rates {sorted(rates)}."
            )
        if wrong := {name: rate for name, rate in rates.items() if not 0 <= rate < math.inf}:
            raise ConfigError(f"Learning rates are numbers from 0 on, but these are not: {wrong}. Change them.")
        if not 0 <= weight_decay < math.inf:
            raise ConfigError(f"weight_decay is a number from 0 on, but is {weight_decay}. Change it.")
        if clip_norm is not None and not clip_norm > 0:
            raise ConfigError(f"clip_norm is the largest gradient norm and must be positive, but is {clip_norm}.")
        self.clip_norm = clip_norm
        self._known: dict[int, Tensor] = {}
        collected = [
            {"params": params, "lr": rates[name], "name": name}
            for name, modules in groups.items()
            if (params := self._collect(modules))
        ]
        if not collected:
            raise ConfigError(f"An optimiser needs parameters, but the groups {sorted(groups)} hold none to train.")
        self.optimiser = torch.optim.Adam(
            collected, weight_decay=weight_decay, fused=all(p.is_cuda for p in self._known.values()) or None
        )

    def _collect(self, modules: Iterable[nn.Module]) -> list[Tensor]:
        """Claim the parameters that no earlier group holds, and give each the handle that SVI asks for."""
        claimed: list[Tensor] = []
        for module in modules:
            for parameter in module.parameters():
                parameter.unconstrained = weakref.ref(parameter)  # type: ignore[attr-defined]
                if parameter.requires_grad and id(parameter) not in self._known:
                    self._known[id(parameter)] = parameter
                    claimed.append(parameter)
        return claimed

    def __call__(self, params: Iterable[Tensor], *args: object, **kwargs: object) -> None:
        """Clip, step and clear the gradients of every group.

        Args:
            params: the parameters that SVI captured in this step.

        Raises:
            ConfigError: if one of them is in no group.
        """
        unknown = sorted(str(tuple(p.shape)) for p in params if id(p) not in self._known and p.requires_grad)
        if unknown:
            names = [group["name"] for group in self.optimiser.param_groups]
            raise ConfigError(
                f"SVI met {len(unknown)} parameter(s) that no group of the optimiser holds, of shapes "
                f"{', '.join(unknown)}. The groups are {names}: add the module that owns them to one, or detach them."
            )
        if self.clip_norm is not None:
            for group in self.optimiser.param_groups:
                nn.utils.clip_grad_norm_(group["params"], self.clip_norm)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
