"""One draw of a guide before inference, so that a mistake in a prior or a guide is met here, not as a loss that is no number."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from pyro_dwp.errors import ConfigError
from pyro_dwp.priors import PriorFamily
from pyro_dwp.sites import WeightSite


@torch.no_grad()
def check_guide(sites: Mapping[str, WeightSite], prior: PriorFamily, guide: Callable[[], Any]) -> None:
    """Refuse a guide that does not go with the sites of a model, or whose draws inference cannot begin from.

    It draws once and leaves torch's CPU generator as it was.

    Args:
        sites: of the model, site name → site.
        prior: of the model.
        guide: samples each site with `pyro.sample` and returns site name → weight.

    Raises:
        ConfigError: if a site is missing, too many or of another shape; if a draw is not finite, or where the prior has no
            density, which makes the KL divergence infinite.
    """
    name = type(guide).__name__
    with torch.random.fork_rng(devices=[]), poutine.trace() as tracer:
        returned = guide()
    nodes = tracer.trace.nodes
    if not isinstance(returned, Mapping):
        raise ConfigError(
            f"{name} must return its draws as a dict, site name → weight, but returned a {type(returned).__name__}. End its "
            "forward with a return of them."
        )
    sampled = [key for key, node in nodes.items() if node["type"] == "sample" and not node["is_observed"]]
    auxiliary = {key for key in sampled if nodes[key]["infer"].get("is_auxiliary", False)}
    _compare(sites, returned, f"{name} returns")
    _compare(sites, set(sampled) - auxiliary, f"{name} samples", complete=True)
    for key, site in sites.items():
        for drawn in (nodes[key]["value"], returned[key]):
            _check_draw(name, prior, site, drawn)


def _compare(sites: Mapping[str, WeightSite], found: Collection[str], does: str, complete: bool = False) -> None:
    """Refuse names that lack a site, or, where they are to be complete, have one too many."""
    missing = [key for key in sites if key not in found]
    surplus = sorted(key for key in found if key not in sites) if complete or missing else []
    if missing or surplus:
        said = [f"{_listed(missing)} missing"] if missing else []
        said += [f"{_listed(surplus)} of no site of the model"] if surplus else []
        raise ConfigError(
            f"{does} each of the model's {len(sites)} sites once, by its name, but {' and '.join(said)}. Let its forward go "
            "through self.sites, and mark a latent variable of its own with infer={'is_auxiliary': True}."
        )


def _listed(names: list[str]) -> str:
    shown = ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"{shown} {'is' if len(names) == 1 else 'are'}"


def _check_draw(name: str, prior: PriorFamily, site: WeightSite, drawn: Any) -> None:
    """Refuse a draw of one site."""
    where = f"site {site.name!r} (group {site.group!r})"
    shape = tuple(drawn.shape) if isinstance(drawn, Tensor) else type(drawn).__name__
    if shape != tuple(site.shape):
        raise ConfigError(
            f"{name} must give {where} a weight of shape {tuple(site.shape)}, but gave {shape}. A distribution of that event "
            "shape, at the end of its `distribution`, does."
        )
    if not torch.isfinite(drawn).all():
        raise ConfigError(
            f"{name} draws weights that are not finite for {where}, before inference has begun. Look at the parameters that its "
            "`distribution` makes of the start: logarithms and roots of numbers that are not positive, and divisions by 0."
        )
    try:
        support = prior.site_distribution(site).support
        inside = bool(support.check(drawn).all())
    except NotImplementedError:
        return  # it does not tell
    if not inside:
        raise ConfigError(
            f"{name} draws weights for {where} where {type(prior).__name__} has no density, so that the KL divergence is "
            f"infinite: its support is {_kind(support)}. Choose a prior over all real numbers, such as gaussian or laplace, or a "
            "guide whose draws stay in this support."
        )


def _kind(support: Any) -> str:
    """Name a constraint, such as Interval, without its bounds, which may be tensors."""
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    return str(support).partition("(")[0]
