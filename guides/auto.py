"""Any of Pyro's automatic guides (`pyro.infer.autoguide`), or an `AutoGuide` of the user's own, as a guide over weight sites.

An autoguide runs its model to learn which sites there are, with which shapes and supports. Here it is given a small stand-in, a
program that samples every site once, so that its parameters exist as soon as it is built, as those of every guide.

    AutoNormal                       independent Gaussians, as mean_field, but log p(w) at the sample
    AutoDiagonalNormal               the same, as one vector over all sites
    AutoLowRankMultivariateNormal    low rank over all sites together; give it a rank: its default is √n
    AutoMultivariateNormal           every Gaussian: n² numbers, for tiny networks
    AutoDelta                        as point

Refused are those that a stand-in cannot serve: see `BASES` and `REFUSED`. An autoguide over all sites in one vector gives the
ELBO a point at each site, so a Gaussian prior's divergence is not taken in closed form but at the sample, which is unbiased.

On the command line and in YAML the class is named by its own path, with its own arguments:

    --guide pyro.infer.autoguide.AutoNormal --guide.init_scale 0.01
    --guide my_guide.py:MyAutoGuide

`adapter` makes the class that stands behind such a name; Pyro's are attributes of this module, too (`guides.auto.AutoNormal`).
"""

import functools
import inspect
import types
from collections.abc import Mapping
from importlib import import_module
from typing import Any, get_type_hints

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions import TorchDistribution
from pyro.infer import autoguide
from pyro.infer.autoguide import AutoGuide
from pyro.infer.autoguide.initialization import InitMessenger, init_to_value
from torch import Tensor

from guides.base import Guide
from guides.initial import initial_scale
from pyro_dwp.distributions import Reshaped
from pyro_dwp.errors import ConfigError, suggest
from pyro_dwp.sites import WeightSite

BASES = ("AutoGuide", "AutoContinuous")
REFUSED = {
    "AutoLaplaceApproximation": "takes the Hessian of the model itself at its end",
    "AutoNormalizingFlow": "starts as a flow of N(0, I), whatever the start weights",
    "AutoStructured": "reads the dependencies of sites off the model",
    "AutoGaussian": "reads the dependencies of sites off the model",
    "AutoDiscreteParallel": "is for discrete sites",
    "AutoGuideList": "is a container of other guides",
    "AutoCallable": "is a container of other guides",
    "AutoMessenger": "makes each site's distribution from its prior while the model itself runs, and a stand-in has no prior",
}
LARGEST = 10**8  # numbers that an autoguide may hold; with gradients and moments of Adam 1.6 GB in float32
OURS = ("self", "model", "init_loc_fn", "create_plates")


class NoMarginalError(ConfigError, NotImplementedError):
    """A site's own distribution, of an autoguide that does not tell it.

    What can do without it, such as a table of widths, meets torch's NotImplementedError; for what cannot, such as flipout, it is
    a setting that cannot work.
    """


class Auto(Guide):
    """One of Pyro's automatic guides over the weight sites.

    Args:
        sites: site name → site.
        start: site name → weight that the autoguide's locations start from.
        family: class of the autoguide, or its dotted path.
        relative_scale: where the autoguide has an `init_scale` that is not among the settings, it becomes this fraction of
            the root mean square of all initial weights together. (Pyro's own default, 0.1, is wider than most networks' weights.)
        settings: of the autoguide, by the names of its arguments.

    Raises:
        ConfigError: if the class is no autoguide, or one that cannot work here, or too large for these sites.

    Example:
        >>> from pyro_dwp.nn import UNet
        >>> from pyro_dwp.sites import weight_sites
        >>> network = UNet(channels=(2, 4))
        >>> sites = weight_sites(network)
        >>> start = {name: network.get_parameter(name) for name in sites}
        >>> guide = Auto(sites, start, "pyro.infer.autoguide.AutoLowRankMultivariateNormal", settings={"rank": 3})
        >>> guide()["init_conv.weight"].shape
        torch.Size([2, 1, 3, 3, 3])
    """

    def __init__(
        self,
        sites: Mapping[str, WeightSite],
        start: Mapping[str, Tensor],
        family: str | type[AutoGuide] = "pyro.infer.autoguide.AutoNormal",
        relative_scale: float = 0.1,
        settings: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(sites, start)
        made = _family(family)
        settings = {name: value for name, value in (settings or {}).items() if value is not None}
        weights = {name: start[name].detach() for name in sites}
        every = torch.cat([weight.flatten() for weight in weights.values()])
        _check_size(made, len(every), settings)
        if "init_scale" in _arguments(made) and "init_scale" not in settings:
            settings["init_scale"] = initial_scale(self, "all sites", every, relative_scale).item()
        self.autoguide = made(InitMessenger(init_to_value(values=weights))(self._stand_in), **settings)
        # Not by a call: Pyro then refuses to make this guide a part of another one, such as an ensemble.
        with poutine.block():
            self.autoguide.forward()

    def _stand_in(self, *args: Any, **kwargs: Any) -> None:
        """Sample every site once, with the support of all weights: the real numbers."""
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
        """Return the site's own distribution; where the autoguide couples sites, `forward` draws them together.

        Raises:
            NoMarginalError: if the autoguide does not tell it.
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
                f"{type(self.autoguide).__name__} does not tell the distribution of a single site such as {name!r}. Use its "
                "draws (--estimator shared_sample), or a guide that does, such as mean_field."
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
    """Return the class of an autoguide, given as such or by its dotted path, that works over a stand-in."""
    if isinstance(family, str):
        module, _, name = family.rpartition(".")
        try:
            family = getattr(import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            found = {f"pyro.infer.autoguide.{key}": getattr(autoguide, key) for key in autoguide.__all__}
            known = [path for path, one in found.items() if _is_autoguide(one) and not _refusal(one)]
            raise ConfigError(f"There is no autoguide {family!r}. {suggest(family, known)}") from error
    if reason := _refusal(family):
        raise ConfigError(
            f"{family.__name__} cannot be used over weight sites: it {reason}. Use pyro.infer.autoguide.AutoNormal, "
            "AutoDiagonalNormal, AutoLowRankMultivariateNormal or AutoDelta, or one of the guides in guides/."
        )
    if not _is_autoguide(family):
        raise ConfigError(
            f"Auto needs a subclass of pyro.infer.autoguide.AutoGuide, but received {getattr(family, '__name__', family)!r}. "
            "A subclass of guides.Guide needs no Auto: it is used as it is."
        )
    made: type[AutoGuide] = family
    return made


def _refusal(family: Any) -> str | None:
    """Return why a class of `pyro.infer.autoguide`, or one derived from it, cannot serve; None for any other."""
    if not inspect.isclass(family):
        return None
    if family in (getattr(autoguide, base) for base in BASES):
        return "is a base to derive autoguides from, without a posterior of its own"
    return next((reason for parent, reason in REFUSED.items() if issubclass(family, getattr(autoguide, parent))), None)


def _is_autoguide(family: Any) -> bool:
    return inspect.isclass(family) and issubclass(family, AutoGuide)


def _arguments(family: type[AutoGuide]) -> dict[str, inspect.Parameter]:
    """Return the constructor's arguments that are the user's to choose."""
    parameters = inspect.signature(family.__init__).parameters
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {key: value for key, value in parameters.items() if key not in OURS and value.kind not in variadic}


def _check_size(family: type[AutoGuide], weights: int, settings: Mapping[str, Any]) -> None:
    """Refuse an autoguide that would hold too many numbers."""
    columns = 1
    if issubclass(family, autoguide.AutoMultivariateNormal):
        columns = weights
    elif issubclass(family, autoguide.AutoLowRankMultivariateNormal):
        columns = settings.get("rank") or round(weights**0.5)
    if weights * columns > LARGEST:
        raise ConfigError(
            f"{family.__name__} would hold {weights * columns:.1e} numbers for these {weights} weights. Give a rank to "
            "AutoLowRankMultivariateNormal (--guide.rank 8), or use low_rank or kernel_covariance."
        )


@functools.cache
def adapter(family: type[AutoGuide]) -> type[Auto]:
    """Return a guide class of one autoguide whose constructor shows the autoguide's own arguments.

    Args:
        family: class of the autoguide.

    Returns:
        A subclass of `Auto`, an attribute of this module; its attribute `adapts` is the autoguide's class.

    Raises:
        ConfigError: if the autoguide cannot work over weight sites.

    Example:
        >>> inspect.signature(adapter(autoguide.AutoDiagonalNormal))
        <Signature (sites: dict, start: dict, relative_scale: float = 0.1, init_scale: float | None = None)>
    """
    shown = _shown(_family(family))

    def __init__(self: Auto, sites: dict, start: dict, *args: Any, **kwargs: Any) -> None:  # noqa: N807 (is the method)
        given = dict(inspect.signature(type(self)).bind(sites, start, *args, **kwargs).arguments)
        sites, start, relative_scale = given.pop("sites"), given.pop("start"), given.pop("relative_scale", 0.1)
        Auto.__init__(self, sites, start, family, relative_scale, given)

    keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD
    fixed = [inspect.Parameter(name, keyword, annotation=dict) for name in ("sites", "start")]
    itself = inspect.Parameter("self", keyword)
    __init__.__signature__ = inspect.Signature([itself, *fixed, *shown])  # type: ignore[attr-defined]
    __init__.__annotations__ = {parameter.name: parameter.annotation for parameter in [*fixed, *shown]}
    pyros = getattr(autoguide, family.__name__, None) is family
    name = family.__name__ if pyros else f"{family.__module__}.{family.__qualname__}".replace(".", "_")
    summary = (inspect.getdoc(family) or "").partition("\n")[0] if not pyros else f"Pyro's {family.__name__}."
    body = {"__init__": __init__, "__module__": __name__, "__qualname__": name, "__doc__": summary, "adapts": family}
    made = types.new_class(name, (Auto,), {}, lambda namespace: namespace.update(body))
    globals()[name] = made
    return made


def _shown(family: type[AutoGuide]) -> list[inspect.Parameter]:
    """Return the arguments of the adapter: the autoguide's, with types, and `relative_scale` beside `init_scale`."""
    hints, shown = get_type_hints(family.__init__), []
    keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD
    for name, parameter in _arguments(family).items():
        plain = type(parameter.default) if isinstance(parameter.default, bool | int | float | str) else Any
        default, hint = parameter.default, hints.get(name, plain)
        if name == "init_scale":
            shown.append(inspect.Parameter("relative_scale", keyword, default=0.1, annotation=float))
            default, hint = None, float | None
        shown.append(inspect.Parameter(name, keyword, default=default, annotation=hint))
    return sorted(shown, key=lambda parameter: parameter.default is not inspect.Parameter.empty)


def __getattr__(name: str) -> type[Auto]:
    """Return the adapter of one of Pyro's autoguides."""
    family = getattr(autoguide, name, None) if not name.startswith("_") else None
    if not _is_autoguide(family) and not _refusal(family):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return adapter(family)
