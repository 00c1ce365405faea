"""Pyro's automatic guides (`pyro.infer.autoguide`), or an `AutoGuide` of your own, as a guide over weight sites.

An autoguide runs its model to learn its sites with their shapes and supports. Here it is given a stand-in, a program that
samples every site once, so that its parameters exist as soon as it is built.

    AutoNormal                       independent Gaussians, as mean_field, but log p(w) at the sample
    AutoDiagonalNormal               the same, as one vector over all sites
    AutoLowRankMultivariateNormal    low rank over all sites together; set a rank, since the default is √n
    AutoMultivariateNormal           full covariance: n² numbers, for tiny networks
    AutoDelta                        as point

Pyro's other autoguides, and classes derived from them, are refused. An autoguide that treats all sites as one vector passes each
site to the ELBO as a point, so the divergence from a Gaussian prior is evaluated at the sample, which is unbiased, and not in
closed form.

    --guide auto --guide.family AutoLowRankMultivariateNormal --guide.settings '{rank: 8}'
"""

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pydantic import PositiveFloat
from pyro import poutine
from pyro.distributions import TorchDistribution
from pyro.infer import autoguide
from pyro.infer.autoguide import AutoGuide
from pyro.infer.autoguide.initialization import InitMessenger, init_to_value
from torch import Tensor

from guides.base import Guide
from pyro_dwp.checks import checked
from pyro_dwp.distributions import Reshaped
from pyro_dwp.errors import ConfigError, suggest
from pyro_dwp.priors import Prior
from pyro_dwp.sites import Start, WeightSite

SERVED = (
    "AutoDelta",
    "AutoDiagonalNormal",
    "AutoLowRankMultivariateNormal",
    "AutoMultivariateNormal",
    "AutoNormal",
)
BASES = ("AutoGuide", "AutoContinuous")
LARGEST = 10**8  # numbers that an autoguide may hold; 1.6 GB in float32 with their gradients and Adam's moments


class NoMarginalError(ConfigError, NotImplementedError):
    """An autoguide does not know a single site's distribution.

    `weight_scales` catches NotImplementedError and estimates widths from draws; for flipout it is a setting that cannot work.
    """


class Auto(Guide):
    """One of Pyro's automatic guides over the weight sites.

    Args:
        sites: site name → site.
        family: class of the autoguide: the name of one of Pyro's, such as AutoNormal, or the dotted path of your own.
        relative_scale: initial standard deviation of every weight, as a fraction of the root mean square of all start weights
            together, unless the settings give an `init_scale`. (Pyro's own default, 0.1, is wider than most networks' weights.)
        settings: the autoguide's own arguments, name → value.

    Raises:
        ConfigError: if the class is not an autoguide or not one that works here, refuses its settings, or is too large for
            these sites.

    Example:
        >>> from pyro_dwp.nn import UNet
        >>> from pyro_dwp.sites import weight_sites
        >>> guide = Auto(weight_sites(UNet(channels=(2, 4))), "AutoLowRankMultivariateNormal", settings={"rank": 3})
        >>> [(name, tuple(parameter.shape)) for name, parameter in guide.autoguide.named_parameters()]
        [('loc', (1782,)), ('scale_unconstrained', (1782,)), ('cov_factor', (1782, 3))]
    """

    @checked
    def __init__(
        self,
        sites: Mapping[str, WeightSite],
        family: str | type[AutoGuide] = "AutoNormal",
        relative_scale: PositiveFloat = 0.1,
        settings: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(sites)
        self.family, self.relative_scale, self.settings = _family(family), relative_scale, dict(settings or {})
        _check_size(self.family, sum(site.shape.numel() for site in sites.values()), self.settings)
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            self.autoguide = self._build({name: torch.zeros(site.shape) for name, site in sites.items()}, 1.0)
            for parameter in self.autoguide.parameters():
                parameter.fill_(torch.nan)

    def start(self, draw: Start, prior: Prior) -> None:
        """Build the autoguide around start weights, whose dtype and device it takes.

        Args:
            draw: returns start weights, site name → weight; called once.
            prior: ignored.
        """
        weights = self.checked_start(draw())
        every = torch.cat([weight.flatten() for weight in weights.values()])
        scale = 1.0
        if self._has_scale():
            scale = self.initial_scale("all sites", every, self.relative_scale).item()
        self.autoguide = self._build(weights, scale)

    def _build(self, weights: Mapping[str, Tensor], scale: float) -> AutoGuide:
        """Return the autoguide with its parameters, around these weights."""
        given = {"init_scale": scale, **self.settings} if self._has_scale() else self.settings
        try:
            built = self.family(InitMessenger(init_to_value(values=dict(weights)))(self._stand_in), **given)
            with poutine.block():
                built.forward()  # not built(): Pyro then refuses to make this guide a part of another one
        except (TypeError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise ConfigError(
                f"{self.family.__name__} refuses the settings {self.settings} ({reason}). Check them: --guide.settings."
            ) from error
        return built

    def _has_scale(self) -> bool:
        """Tell whether the autoguide takes an `init_scale` that the settings do not give."""
        return "init_scale" in inspect.signature(self.family).parameters and "init_scale" not in self.settings

    def _stand_in(self, *args: Any, **kwargs: Any) -> None:
        """Sample every site once, over all real numbers."""
        for name, site in self.sites.items():
            pyro.sample(name, dist.Normal(0.0, 1.0).expand(site.shape).to_event(len(site.shape)))

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Sample every site once with the autoguide.

        Returns:
            Site name → weight.
        """
        weights: dict[str, Tensor] = self.autoguide(*args, **kwargs)
        return weights

    def distribution(self, name: str) -> TorchDistribution:
        """Return the site's own distribution; where the autoguide couples sites, only `forward` draws them together.

        Raises:
            NoMarginalError: if the autoguide does not know it.
        """
        if isinstance(self.autoguide, autoguide.AutoContinuous):
            found = self._marginal(name, self.autoguide.get_posterior())
        else:
            with poutine.block():
                nodes = poutine.trace(self.autoguide).get_trace().nodes
            latent = any(node.get("infer", {}).get("is_auxiliary", False) for node in nodes.values())
            own = nodes.get(f"{name}_unconstrained", None if latent else nodes[name])
            found = own["fn"] if own else None
        if found is None:
            raise NoMarginalError(
                f"{self.family.__name__} does not know the distribution of a single site such as {name!r}. Use its draws "
                "(--estimator shared_sample), or a guide that does, such as mean_field."
            )
        return found

    def _marginal(self, name: str, posterior: TorchDistribution) -> TorchDistribution | None:
        """Return the distribution of a site's entries in the vector of all sites."""
        sizes = {key: site.shape.numel() for key, site in self.sites.items()}
        begin = sum(sizes[key] for key in list(sizes)[: list(sizes).index(name)])
        part, shape = slice(begin, begin + sizes[name]), self.sites[name].shape
        if isinstance(posterior, dist.MultivariateNormal):
            rows = posterior.scale_tril[part]
            return Reshaped(dist.MultivariateNormal(posterior.loc[part], rows @ rows.T), shape)
        if isinstance(posterior, dist.LowRankMultivariateNormal):
            factor, diagonal = posterior.cov_factor[part], posterior.cov_diag[part]
            return Reshaped(dist.LowRankMultivariateNormal(posterior.loc[part], factor, diagonal), shape)
        base = posterior.base_dist if isinstance(posterior, dist.Independent) else None
        if isinstance(base, dist.Normal):
            return dist.Normal(base.loc[part].reshape(shape), base.scale[part].reshape(shape)).to_event(len(shape))
        return None


def _family(family: Any) -> type[AutoGuide]:
    """Return an autoguide's class, given as a class or by name, if it works with a stand-in model."""
    if isinstance(family, str):
        module, _, name = family.rpartition(".")
        try:
            family = getattr(import_module(module or "pyro.infer.autoguide"), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigError(f"There is no autoguide {family!r}. {suggest(family, SERVED)}") from error
    if not inspect.isclass(family) or not issubclass(family, AutoGuide):
        raise ConfigError(
            f"auto needs a subclass of pyro.infer.autoguide.AutoGuide, but received {getattr(family, '__name__', family)!r}. "
            f"{suggest('', SERVED)}"
        )
    parents = [one.__name__ for one in family.__mro__ if one.__module__.startswith("pyro.infer.autoguide")]
    if parents[0] not in SERVED and (parents[0] not in BASES or parents[0] == family.__name__):
        raise ConfigError(
            f"{family.__name__} cannot be a guide over weight sites: it has no posterior of its own, needs the model itself, or "
            f"cannot start from given weights. {suggest(parents[0], SERVED)}"
        )
    return family


def _check_size(family: type[AutoGuide], weights: int, settings: Mapping[str, Any]) -> None:
    """Refuse an autoguide that would hold too many numbers."""
    columns = 1
    if issubclass(family, autoguide.AutoMultivariateNormal):
        columns = weights
    elif issubclass(family, autoguide.AutoLowRankMultivariateNormal):
        rank = settings.get("rank")
        columns = rank if isinstance(rank, int) else round(weights**0.5)
    if weights * columns > LARGEST:
        raise ConfigError(
            f"{family.__name__} would hold {weights * columns:.1e} numbers for these {weights} weights. Give a small rank to "
            "AutoLowRankMultivariateNormal (--guide.settings '{rank: 8}'), or use low_rank or kernel_covariance."
        )
