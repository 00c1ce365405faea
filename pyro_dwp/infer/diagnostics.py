"""How wide a posterior is relative to its mean and its prior: the first thing to look at when uncertainty is off."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from pyro_dwp.priors import Prior
from pyro_dwp.sites import WeightSite


@torch.no_grad()
def weight_scales(
    sites: Mapping[str, WeightSite], prior: Prior, guide: Callable[[], Mapping[str, Tensor]]
) -> dict[str, dict[str, float]]:
    """Compare the spread of weights under posterior and prior, per group of kernels.

    The posterior's width is exact where the guide knows the variance of a site. Otherwise it is estimated from two draws, as
    half their mean squared difference.

    Args:
        sites: site name → site.
        prior: sampled once for each site.
        guide: returns one draw of all sites.

    Returns:
        Group → root mean square of a weight under the prior ("prior_rms") and under the posterior ("posterior_rms"), and
        standard deviation of a weight under the posterior ("posterior_std"), all in units of the weights.
    """
    with poutine.block():
        first, second = guide(), guide()
    sums: dict[str, list[Tensor]] = {}
    counts: dict[str, int] = {}
    for name, site in sites.items():
        drawn = prior.site_distribution(site).sample()
        squares = [
            drawn.square(),
            first[name].square(),
            _variance(guide, name, 0.5 * (first[name] - second[name]).square()),
        ]
        totals = [square.double().sum() for square in squares]
        previous = sums.get(site.group, [torch.zeros((), dtype=torch.float64)] * 3)
        sums[site.group] = [a.cpu() + b.cpu() for a, b in zip(previous, totals, strict=True)]
        counts[site.group] = counts.get(site.group, 0) + site.shape.numel()
    names = ("prior_rms", "posterior_rms", "posterior_std")
    return {
        group: {name: (total / counts[group]).sqrt().item() for name, total in zip(names, totals, strict=True)}
        for group, totals in sums.items()
    }


def _variance(guide: Any, name: str, estimate: Tensor) -> Tensor:
    """Return the variance of each weight of a site under a guide, or the estimate where the guide does not know it."""
    try:
        variance: Tensor = guide.distribution(name).variance
    except (AttributeError, NotImplementedError):
        return estimate
    return variance
