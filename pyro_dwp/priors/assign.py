"""Which prior a parameter has, by rules on layer names, module types, kernel sizes or groups; the first that fits decides.

    prior:
      class: assigned
      rules:
        - {name: final_conv.weight, prior: {class: gaussian, scale: 0.1}}   # the output layer
        - {name: "*.reduce.weight", prior: null}                            # stays a point parameter
        - {kernel_size: 3, prior: deep_weight}                              # every 3x3(x3) convolution

A parameter that a rule gives a prior is a random variable, whatever its layer; one that a rule gives none, or that no rule
fits, stays a point parameter. But every convolution with kernels of more than one voxel must fit a rule.

References:
    Ritter, Kukla, Zhang, Li 2021, TyXe: Pyro-based Bayesian neural nets for Pytorch (`expose` and `hide`).
"""

import re
from collections.abc import Collection
from dataclasses import fields
from fnmatch import fnmatchcase
from typing import Any

from pydantic import PositiveInt
from pyro.distributions import TorchDistribution
from torch import nn

from pyro_dwp.checks import checked_dataclass
from pyro_dwp.distributions import ImplicitPrior
from pyro_dwp.errors import ConfigError, PyroDwpError, suggest
from pyro_dwp.priors.base import Prior
from pyro_dwp.sites import WeightSite, is_spatial_convolution


@checked_dataclass
class Rule:
    """A prior and the parameters that it is for: those that meet every criterion given, or all if none is given.

    Args:
        prior: of these parameters; null (None) keeps them as point parameters.
        name: of the parameter, such as "final_conv.weight", or a shell pattern, such as "up1.*" or "*.bias".
        module: class of its layer, or a base of it, such as "Conv3d", "ConvTranspose3d" or "Linear".
        kernel_size: edge of the kernel in every dimension, in voxels, or a list with the edge in each.
        group: of kernels, such as "1".
    """

    prior: Prior | None
    name: str | None = None
    module: str | None = None
    kernel_size: PositiveInt | list[PositiveInt] | None = None
    group: str | int | None = None

    @property
    def criteria(self) -> dict[str, Any]:
        """The criteria given, by name."""
        given = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "prior"}
        return {criterion: value for criterion, value in given.items() if value is not None}

    def fits(self, site: WeightSite) -> bool:
        """Tell whether a parameter meets every criterion.

        Example:
            >>> import torch
            >>> site = WeightSite("up1.conv_1.weight", torch.Size([8, 4, 3, 3]), "5", ("Conv2d", "_ConvNd"))
            >>> Rule(None, name="up1.*", kernel_size=3).fits(site), Rule(None, module="Linear").fits(site)
            (True, False)
        """
        return all(_meets(site, criterion, wanted) for criterion, wanted in self.criteria.items())

    def __str__(self) -> str:
        criteria = ", ".join(f"{criterion} {value}" for criterion, value in self.criteria.items()) or "any parameter"
        return f"{criteria}: {'no prior' if self.prior is None else type(self.prior).__name__}"


class Assigned(Prior):
    """A prior for each parameter, chosen by rules; the first rule that fits decides.

    Args:
        rules: rules in their order, each with a `prior` and any of the criteria `name`, `module`, `kernel_size` and `group`.

    Raises:
        ConfigError: if there are no rules; at a convolution with kernels of more than one voxel, if no rule fits it.

    Example:
        >>> from pyro_dwp.nn import UNet
        >>> from pyro_dwp.priors import Gaussian
        >>> from pyro_dwp.sites import weight_sites
        >>> prior = Assigned([Rule(Gaussian(scale=1.0), name="final_conv.*"), Rule(None, kernel_size=1), Rule(Gaussian())])
        >>> sites = weight_sites(UNet(channels=(2, 4)), expose=prior.exposes)
        >>> [name for name, site in sites.items() if site.kernel_shape.numel() == 1]
        ['final_conv.weight']
    """

    def __init__(self, rules: list[Rule]) -> None:
        super().__init__()
        if not rules:
            raise ConfigError(
                "Assigned needs at least one rule, but received none. {kernel_size: 3, prior: gaussian} is one."
            )
        self.rules = {str(number): rule for number, rule in enumerate(rules, start=1)}
        self.priors = nn.ModuleDict({n: rule.prior for n, rule in self.rules.items() if rule.prior is not None})

    def exposes(self, site: WeightSite) -> bool:
        """Tell whether the first rule that fits gives this parameter a prior."""
        return self._choose(site) in self.priors

    def distribution(self, site: WeightSite) -> TorchDistribution:
        """Return the prior of one kernel of this site, from the first rule that fits.

        Raises:
            ConfigError: if the rule gives no prior, or its prior does not fit the site.
        """
        number = self._choose(site)
        prior = self.rules[number].prior if number else None
        if prior is None:
            raise ConfigError(f"{_describe(site)} has no prior: {self._listing()}. Ask only for sites that it exposes.")
        try:
            found = prior.checked_distribution(site)
        except PyroDwpError as error:
            raise type(error)(f"{error} ({self._title(number)} chose this prior.)") from error
        return found.renamed(f"{number}/{found.group}") if isinstance(found, ImplicitPrior) else found

    def encoders(self) -> dict[str, nn.Module]:
        """Return the encoders of each rule's prior, named "rule number/group" like the distributions."""
        offered = {n: rule.prior.encoders() for n, rule in self.rules.items() if rule.prior is not None}
        return {f"{number}/{group}": encoder for number, each in offered.items() for group, encoder in each.items()}

    def check(self, parameters: Collection[WeightSite]) -> None:
        """Refuse rules that decide on none of a network's parameters, and priors that do not fit theirs.

        A rule without criteria is a fallback and may have nothing to decide.

        Args:
            parameters: all of a network, as `weight_sites(network, groups, lambda site: True).values()` gives them.

        Raises:
            ConfigError: if a rule fits no parameter, or only those that earlier rules decide on; if a prior does not fit a
                site.
        """
        for number, rule in self.rules.items():
            if rule.criteria and not any(map(rule.fits, parameters)):
                raise ConfigError(f"{self._title(number)} fits no parameter: {_why(rule, parameters)}")
        used = {self._choose(site) for site in parameters}
        used.add(next((number for number, rule in self.rules.items() if not rule.criteria), ""))
        for number in self.rules:
            if number not in used:
                raise ConfigError(
                    f"{self._title(number)} fits only parameters that rules before it decide on. Move it up, or leave it out."
                )
        super().check(parameters)

    def _choose(self, site: WeightSite) -> str:
        """Return the number of the first rule that fits a parameter; "" if none fits a parameter that does not need one."""
        number = next((number for number, rule in self.rules.items() if rule.fits(site)), "")
        if not number and is_spatial_convolution(site):
            raise ConfigError(
                f"Every convolution with kernels of more than one voxel needs a rule, but none fits {_describe(site)}: "
                f"{self._listing()}. Add one: {{name: {site.name}, prior: gaussian}} gives it a prior, prior: null keeps "
                "it as a point parameter."
            )
        return number

    def _title(self, number: str) -> str:
        return f"Rule {number} of {len(self.rules)}, {self.rules[number]},"

    def _listing(self) -> str:
        return "the rules are, in order, " + "; ".join(f"{number}. {rule}" for number, rule in self.rules.items())


def _meets(site: WeightSite, criterion: str, wanted: Any) -> bool:
    if criterion == "name":
        return fnmatchcase(site.name, wanted)
    if criterion == "module":
        return wanted in site.layer
    if criterion == "group":
        return str(wanted) == site.group
    edges = list(site.kernel_shape)
    return bool(edges) and edges == ([wanted] * len(edges) if isinstance(wanted, int) else wanted)


def _describe(site: WeightSite) -> str:
    layer, size = site.layer[0] if site.layer else "unknown layer", "x".join(map(str, site.kernel_shape)) or "none"
    return f"{site.name!r} ({layer}, kernel size {size}, group {site.group!r})"


def _why(rule: Rule, parameters: Collection[WeightSite]) -> str:
    """Say why a rule fits no parameter, and what would."""
    known = {
        "name": {site.name for site in parameters},
        "module": {name for site in parameters for name in site.layer},
        "kernel_size": {str(list(site.kernel_shape)) for site in parameters if site.kernel_shape},
        "group": {site.group for site in parameters},
    }
    for criterion, wanted in rule.criteria.items():
        if not any(_meets(site, criterion, wanted) for site in parameters):
            hint = "Names are shell patterns, not regular expressions: * stands for any characters, ? for one. "
            is_expression = criterion == "name" and any(_matches(wanted, name) for name in known["name"])
            return f"none has this {criterion}. {hint if is_expression else ''}{suggest(str(wanted), known[criterion])}"
    return "some parameters meet each of its criteria, but none meets all of them. Drop one."


def _matches(expression: str, name: str) -> bool:
    """Tell whether a name would match if the pattern were a regular expression."""
    try:
        return re.fullmatch(expression, name) is not None
    except re.error:
        return False
