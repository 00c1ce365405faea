"""One draw of a guide before inference, to find mistakes that would otherwise show only as a loss that is not a number."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from pyro import poutine

from pyro_dwp.errors import ConfigError
from pyro_dwp.priors import Prior
from pyro_dwp.sites import WeightSite


@torch.no_grad()
def check_guide(sites: Mapping[str, WeightSite], prior: Prior, guide: Callable[[], Any]) -> None:
    """Refuse a guide that does not fit the sites of a model, or whose draws inference cannot begin from.

    It draws once and leaves torch's CPU generator as it was.

    Args:
        sites: of the model, site name → site.
        prior: of the model.
        guide: samples each site with `pyro.sample` and returns site name → weight.

    Raises:
        ConfigError: if a draw is missing, unknown, of another shape or not finite, or lies where the prior has no density.
    """
    name = type(guide).__name__
    with torch.random.fork_rng(devices=[]), poutine.trace() as tracer:
        returned = guide()
    sampled = {
        key: node["value"]
        for key, node in tracer.trace.nodes.items()
        if node["type"] == "sample" and not node["is_observed"] and not node["infer"].get("is_auxiliary", False)
    }
    given = returned if isinstance(returned, Mapping) else {}
    if wrong := [key for key in sites if key not in given or key not in sampled] + sorted(
        sampled.keys() - sites.keys()
    ):
        raise ConfigError(
            f"{name} must sample each site of the model once and return site name → weight, but does not for {wrong[0]!r}. Let "
            "its forward go through self.sites, and mark a latent variable of its own with infer={'is_auxiliary': True}."
        )
    for key, site in sites.items():
        where = f"site {key!r} (group {site.group!r})"
        for value in (sampled[key], given[key]):
            if value.shape != site.shape:
                raise ConfigError(
                    f"{name} must draw weights of shape {tuple(site.shape)} for {where}, but drew {tuple(value.shape)}. Let its "
                    "distribution have this event shape."
                )
            if not value.isfinite().all():
                raise ConfigError(
                    f"{name} draws weights for {where} that are not finite. Start it (guide.start), and look for logarithms, "
                    "roots and divisions in its `distribution`."
                )
        try:
            inside = bool(prior.site_distribution(site).support.check(sampled[key]).all())
        except NotImplementedError:
            continue  # the prior does not declare a support
        if not inside:
            raise ConfigError(
                f"{name} draws weights for {where} where {type(prior).__name__} has no density, so that the KL divergence is "
                "infinite. Choose a prior over all real numbers, such as gaussian, or a guide within the prior's support."
            )
