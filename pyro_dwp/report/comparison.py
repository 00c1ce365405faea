"""Compare priors: how well each describes held-out kernels, and what it costs.

A prior's gain is its log density minus that of an isotropic Gaussian fitted to the same kernels, in nats per kernel. The
difference is taken kernel by kernel, so the standard error is that of the paired difference. It treats kernels as
independent, which those of one network are not.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from pyro_dwp.errors import ConfigError, DataError
from pyro_dwp.kernels.bank import KernelBank, root_mean_square, split_randomly
from pyro_dwp.kernels.information import Estimate, estimate, isotropic_log_density
from pyro_dwp.priors import Prior
from pyro_dwp.sites import WeightSite


@dataclass(frozen=True)
class PriorRow:
    """One prior of a comparison.

    Args:
        name: of the prior.
        gains: group → gain on held-out kernels, in nats per kernel.
        exact: True if the gains are exact, False if they are lower bounds.
        parameters: number of fitted values in all groups; 0 for a prior of which only the scale is matched.
        fit_seconds: wall time of the fit; None for a prior that is not fitted.
        step_seconds: time of an SVI step, CPU time on a CPU, under this prior; None if it was not measured.
    """

    name: str
    gains: Mapping[str, Estimate]
    exact: bool
    parameters: int
    fit_seconds: float | None = None
    step_seconds: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the row as a dictionary that JSON can hold."""
        return asdict(self)


def matched_priors(title: str, make: Callable[..., Prior], scales: Mapping[str, float]) -> dict[str, Prior]:
    """Return group → prior with the scale of the group's kernels.

    Args:
        title: of the prior, named in an error.
        make: builds the prior from its `scale`.
        scales: group → standard deviation of a weight.

    Raises:
        ConfigError: if the prior has no scale to set.
    """
    try:
        return {group: make(scale=scale) for group, scale in scales.items()}
    except TypeError as error:
        raise ConfigError(f"fixed.{title}: this prior takes no argument `scale`. Move it to `learned`.") from error


def fitted_row(title: str, metrics: Mapping[str, Any], step_seconds: float | None) -> PriorRow:
    """Return the row of a prior that run/train_prior.py fitted.

    Args:
        title: of the prior.
        metrics: metrics.json of the fit.
        step_seconds: time of an SVI step, CPU time on a CPU, under the prior; None if it was not measured.
    """
    gains = {row["group"]: Estimate(**row["learned"]) for row in metrics["nats_per_kernel"]}
    parameters, seconds = (sum(metrics[name].values()) for name in ("parameters", "seconds"))
    return PriorRow(title, gains, metrics["exact"], parameters, seconds, step_seconds)


def fixed_prior_gain(prior: Prior, group: str, fitted: Tensor, held_out: Tensor) -> Estimate:
    """Return the gain of a prior that is not learned, on held-out kernels.

    Args:
        prior: with its scale set to the root mean square of the fitted kernels; converted to float64 in place.
        group: name of the group.
        fitted: kernels that the isotropic Gaussian is fitted to, (n, K, ...).
        held_out: kernels to evaluate both densities on, (m, K, ...).
    """
    density = prior.double().distribution(_site(group, held_out.shape[1:])).log_prob(held_out.double())
    return estimate(density - isotropic_log_density(fitted.flatten(1).double(), held_out.flatten(1).double()))


def pretrained_gain(bank: KernelBank, group: str, held_out: float = 0.2, seed: int = 0) -> Estimate:
    """Return the gain of a Gaussian around one source network's own weights, on held-out networks.

        p(kernel at position i) = N(w_i of the source network, s² I)

    The source network is the first fitted one, at its first snapshot; s² is the mean squared deviation of the other fitted
    networks from it.

    Args:
        bank: with all kernels of each snapshot, so that the i-th kernel of each has the same position in its network.
        group: name of the group.
        held_out: share of the networks to evaluate on, as in `KernelBank.split`.
        seed: of the choice of these networks.

    Raises:
        DataError: if kernels were left out, so that positions are lost, or fewer than two networks are left to fit.
    """
    fitted, unseen = bank.split(group, held_out, seed)
    _, unseen_networks = split_randomly(torch.tensor(bank.networks), held_out, seed)
    sources = bank.sources[group][~torch.isin(bank.sources[group], unseen_networks)]
    snapshots = int(bank.metadata.get("snapshots", 0))
    positions = len(bank.group(group)) // max(snapshots, 1)
    left_out = bank.metadata.get("left_out", {}).get(group, 0)
    if len(bank.networks) < 2 or len(sources.unique()) < 2 or not snapshots or left_out or len(fitted) % positions:
        raise DataError(
            "A prior around a network's weights is evaluated on all kernels of at least three networks, but this bank has "
            f"{len(bank.networks)}, and {left_out} kernels of group {group!r} were left out. Collect kernels of more networks, "
            "with --minimum_norm 0."
        )
    centre = fitted[:positions].flatten(1).double()
    others = fitted[sources != sources[0]].flatten(1).double().reshape(-1, *centre.shape)
    truth = unseen.flatten(1).double().reshape(-1, *centre.shape)
    density = isotropic_log_density((others - centre).flatten(0, 1), (truth - centre).flatten(0, 1))
    return estimate(density - isotropic_log_density(fitted.flatten(1).double(), truth.flatten(0, 1)))


def draw_kernels(priors: Mapping[str, Prior], bank: KernelBank, number: int = 16) -> dict[str, Tensor]:
    """Return group → kernels drawn from the group's prior, (number, K, ...), on the CPU.

    Args:
        priors: group → prior; converted to float32 in place.
        bank: its kernels have the shapes of those to draw.
        number: of kernels to draw for each group.
    """
    sites = {group: _site(group, bank.group(group).shape[1:]) for group in priors}
    return {group: priors[group].float().distribution(site).sample((number,)).cpu() for group, site in sites.items()}


def group_scales(bank: KernelBank, held_out: float = 0.2, seed: int = 0) -> dict[str, float]:
    """Return the root mean square of each group's fitted kernels, in units of the weights.

    Args:
        bank: the kernels.
        held_out: share of the networks that is held out, as in `KernelBank.split`.
        seed: of the choice of these networks.
    """
    return {group: root_mean_square(bank.split(group, held_out, seed)[0]) for group in bank.groups}


def comparison_table(rows: Sequence[PriorRow]) -> str:
    """Return a Markdown table with the largest gain of each group in bold.

    Example:
        >>> plain = PriorRow("gaussian", {"1": Estimate(0.0, 0.1)}, exact=True, parameters=0)
        >>> learned = PriorRow("flow", {"1": Estimate(2.0, 0.1)}, False, 1000, fit_seconds=3.0, step_seconds=0.5)
        >>> print(comparison_table([plain, learned]))
        | prior | 1 | exact | parameters | fit, seconds | step, seconds |
        | --- | --- | --- | --- | --- | --- |
        | gaussian | +0.0 ± 0.1 | exact | 0 |  |  |
        | flow | **+2.0 ± 0.1** | bound | 1,000 | 3 | 0.50 |
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


def _site(group: str, kernel_shape: Sequence[int]) -> WeightSite:
    """Return a site with one kernel, to ask a prior for its distribution in a group."""
    return WeightSite(f"group {group}", torch.Size([1, 1, *kernel_shape]), group)
