"""One torch Adam for all parameters of a variational program, in named groups, driven by `SVI`.

Pyro's own optimisers make one torch optimiser per tensor. Here a single one holds every group (θ of the guide, ψ of
the auxiliary encoder, ...), so that clipping, schedules and checkpoints work as in plain torch.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from pyro.optim import PyroOptim
from torch import Tensor, nn

from pyro_dwp.checks import checked
from pyro_dwp.errors import ConfigError
from pyro_dwp.train.ranks import Ranks


def is_fused(parameters: Iterable[Tensor]) -> bool:
    """Tell whether torch has Adam as one fused operation for these parameters, on whose devices it is several times faster."""
    return all(parameter.device.type in ("cpu", "cuda") for parameter in parameters)


class JointAdam(PyroOptim):
    """Adam over named groups of modules, each with its own learning rate, as one torch optimiser.

    Every parameter of the modules is updated when it has a gradient, whether or not SVI captured it in this step; a
    parameter that SVI captured and no group holds is an error rather than a weight that silently never moves.

    Args:
        groups: group name → modules whose parameters it trains, e.g. `{"posterior": [guide], "encoders": [encoder]}`. A
            parameter that several groups reach belongs to the first. Groups without parameters are left out.
        rates: group name → learning rate at the start, per step; dimensionless. A single number applies to all groups.
        clip_norm: largest L2 norm of each group's gradient, in units of loss per unit of parameter; None does not clip.
        weight_decay: L2 penalty added to the gradient (coupled, as in `torch.optim.Adam`), per unit of parameter.
        ranks: processes over which the gradient is averaged, before it is clipped.

    Attributes:
        optimiser: the torch optimiser; `optimiser.param_groups[i]["name"]` is the group's name.

    Raises:
        ConfigError: if the names of groups and rates differ, a number is outside its range, or there is nothing to train.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> adam = JointAdam({"posterior": [layer]}, rates={"posterior": 1e-3})
        >>> [group["name"] for group in adam.optimiser.param_groups]
        ['posterior']
    """

    @checked
    def __init__(
        self,
        groups: Mapping[str, Sequence[nn.Module]],
        rates: dict[str, NonNegativeFloat] | NonNegativeFloat,
        clip_norm: PositiveFloat | None = None,
        weight_decay: NonNegativeFloat = 0.0,
        ranks: Ranks | None = None,
    ) -> None:
        super().__init__(torch.optim.Adam, {})
        rates = rates if isinstance(rates, dict) else dict.fromkeys(groups, rates)
        if set(groups) != set(rates):
            raise ConfigError(
                "Every group needs a rate of the same name, but the groups are "
                f"{sorted(groups)} and the rates {sorted(rates)}."
            )
        self.clip_norm, self.ranks = clip_norm, ranks or Ranks()
        self._known: dict[int, Tensor] = {}
        collected = [
            {"params": params, "lr": rates[name], "name": name}
            for name, modules in groups.items()
            if (params := self._collect(modules))
        ]
        if not collected:
            raise ConfigError(f"An optimiser needs parameters, but the groups {sorted(groups)} hold none to train.")
        self.optimiser = torch.optim.Adam(collected, weight_decay=weight_decay, fused=is_fused(self._known.values()))

    def _collect(self, modules: Iterable[nn.Module]) -> list[Tensor]:
        """Claim the parameters that no earlier group holds."""
        claimed: list[Tensor] = []
        for module in modules:
            for parameter in module.parameters():
                if parameter.requires_grad and id(parameter) not in self._known:
                    self._known[id(parameter)] = parameter
                    claimed.append(parameter)
        return claimed

    def __call__(self, params: Iterable[Tensor], *args: object, **kwargs: object) -> None:
        """Average over the ranks, clip, step and clear the gradients of every group.

        Args:
            params: the parameters that SVI captured in this step.

        Raises:
            ConfigError: if one of them is in no group.
        """
        unknown = sorted(str(tuple(p.shape)) for p in params if id(p) not in self._known and p.requires_grad)
        if unknown:
            names = [group["name"] for group in self.optimiser.param_groups]
            raise ConfigError(
                f"No group of the optimiser holds {len(unknown)} parameter(s) of this step, of shapes {', '.join(unknown)}. Add "
                f"the module that owns them to a group ({names}), or detach them."
            )
        self.ranks.average_gradients(self._known.values())
        if self.clip_norm is not None:
            for group in self.optimiser.param_groups:
                nn.utils.clip_grad_norm_(group["params"], self.clip_norm)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
