"""Priors beside each other: how well each describes held-out kernels, and what it costs.

Nats per kernel are given above those of an isotropic Gaussian fitted to the same kernels, kernel by kernel, so that the
standard error is that of the paired difference; it treats kernels as independent, which those of one network are not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from pyro_dwp.errors import DataError
from pyro_dwp.kernels.bank import KernelBank, root_mean_square, split_randomly
from pyro_dwp.kernels.information import Estimate, estimate, isotropic_log_density
from pyro_dwp.priors import PriorFamily
from pyro_dwp.sites import WeightSite


@dataclass(frozen=True)
class PriorRow:
    """One prior of a comparison.

    Args:
        name: of the prior.
        gains: group → held-out nats per kernel above the isotropic Gaussian.
        exact: whether they are exact; else lower bounds.
        parameters: number of fitted numbers, all groups together; 0 where only the scale is matched.
        fit_seconds: wall time of the fit; None where there is none.
        step_seconds: wall time of an SVI step under this prior; None where it was not taken.
    """

    name: str
    gains: Mapping[str, Estimate]
    exact: bool
    parameters: int
    fit_seconds: float | None = None
    step_seconds: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the row as JSON-able values."""
        return asdict(self)


def fixed_prior_gain(prior: PriorFamily, group: str, fitted: Tensor, judged: Tensor) -> Estimate:
    """Return the gain of a prior that is not learned over the isotropic Gaussian, on held-out kernels.

    Args:
        prior: its scale set to the fitted kernels' root mean square.
        group: name of the group.
        fitted: kernels that the isotropic Gaussian is fitted to, (n, K, ...).
        judged: held-out kernels, (m, K, ...).
    """
    site = WeightSite(f"group {group}", torch.Size([1, 1, *judged.shape[1:]]), group)
    density = prior.double().distribution(site).log_prob(judged.double())
    return estimate(density - isotropic_log_density(fitted.flatten(1).double(), judged.flatten(1).double()))


def pretrained_gain(bank: KernelBank, group: str, held_out: float = 0.2, seed: int = 0) -> Estimate:
    """Return the gain of a Gaussian around one source network's own weights, place by place, on held-out networks.

        p(w at place i) = N(w; w_i of the source network, s²),   s² the mean square of the other fitted networks' deviations

    The source network is the first fitted one, at its first snapshot; its other snapshots do not count.

    Args:
        bank: every snapshot with all of its kernels, so that the k-th kernel of each has the same place in its network.
        group: name of the group.
        held_out: share of the networks that judge, as in `KernelBank.split`.
        seed: decides which.

    Raises:
        DataError: if kernels were left out, so that places are lost, or only one network is there to fit.
    """
    fitted, judged = bank.split(group, held_out, seed)
    _, judges = split_randomly(torch.tensor(bank.networks), held_out, seed)
    sources = bank.sources[group][~torch.isin(bank.sources[group], judges)]
    snapshots = int(bank.metadata.get("snapshots", 0))
    places = len(bank.group(group)) // max(snapshots, 1)
    few = len(bank.networks) < 2 or len(sources.unique()) < 2
    if few or not snapshots or bank.metadata.get("left_out", {}).get(group) or len(fitted) % places:
        raise DataError(
            f"A prior around a network's weights is judged place by place, but kernels of group {group!r} were left out or the "
            "bank has fewer than two networks to fit. Collect kernels of several networks with --minimum_norm 0."
        )
    centre = fitted[:places].flatten(1).double()
    others = fitted[sources != sources[0]].flatten(1).double().reshape(-1, *centre.shape)
    truth = judged.flatten(1).double().reshape(-1, *centre.shape)
    density = isotropic_log_density((others - centre).flatten(0, 1), (truth - centre).flatten(0, 1))
    return estimate(density - isotropic_log_density(fitted.flatten(1).double(), truth.flatten(0, 1)))


def draw_kernels(prior: PriorFamily, group: str, kernel_shape: Sequence[int], number: int = 16) -> Tensor:
    """Return kernels drawn from a prior at one group, (number, K, ...), on the CPU."""
    site = WeightSite(f"group {group}", torch.Size([1, 1, *kernel_shape]), group)
    return prior.distribution(site).sample((number,)).cpu()


def group_scales(bank: KernelBank, held_out: float = 0.2, seed: int = 0) -> dict[str, float]:
    """Return the root mean square of each group's fitted kernels, in units of the weights."""
    return {group: root_mean_square(bank.split(group, held_out, seed)[0]) for group in bank.groups}


def comparison_table(rows: Sequence[PriorRow]) -> str:
    """Return rows as a Markdown table, the best gain of each group in bold.

    Example:
        >>> plain = PriorRow("gaussian", {"1": Estimate(0.0, 0.1)}, exact=True, parameters=0)
        >>> learned = PriorRow("flow", {"1": Estimate(2.0, 0.1)}, exact=True, parameters=99, fit_seconds=3.0)
        >>> print(comparison_table([plain, learned]))
        | prior | 1 | exact | parameters | fit, seconds | step, seconds |
        | --- | --- | --- | --- | --- | --- |
        | gaussian | +0.0 ± 0.1 | exact | 0 |  |  |
        | flow | **+2.0 ± 0.1** | exact | 99 | 3 |  |
    """
    groups = list(rows[0].gains)
    heading = ["prior", *groups, "exact", "parameters", "fit, seconds", "step, seconds"]
    lines = [heading, ["---"] * len(heading)]
    best = {group: max(row.gains[group].mean for row in rows) for group in groups}
    for row in rows:
        gains = [f"{gain.mean:+.1f} ± {gain.error:.1f}" for gain in row.gains.values()]
        marked = [
            f"**{text}**" if row.gains[group].mean == best[group] else text
            for group, text in zip(groups, gains, strict=True)
        ]
        fit = "" if row.fit_seconds is None else f"{row.fit_seconds:.0f}"
        step = "" if row.step_seconds is None else f"{row.step_seconds:.2f}"
        lines.append([row.name, *marked, "exact" if row.exact else "bound", f"{row.parameters:,}", fit, step])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
