"""Which prior a parameter has, by rules: over layer names, module types, kernel sizes or groups; the first that fits wins.

    prior:
      class_path: assigned
      init_args:
        rules:
          - {name: final_conv.weight, prior: {class_path: gaussian, init_args: {scale: 0.1}}}   # the output layer
          - {name: "*.reduce.weight", prior: null}                                              # stays a point parameter
          - {kernel_size: 3, prior: deep_weight}                                                # every 3x3(x3) convolution

A parameter that a rule gives a prior is a random variable, whatever its layer; one that a rule gives none, or that no rule
fits, stays a point parameter. But a convolution with kernels of more than one voxel must be decided on by a rule.

References:
    Ritter, Kukla, Zhang, Li 2021, TyXe: Pyro-based Bayesian neural nets for Pytorch (`expose` and `hide`).
"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from typing import Any, Literal, TypeVar

import torch
from pyro.distributions import TorchDistribution
from torch import nn

from pyro_dwp.errors import ConfigError, PyroDwpError, suggest
from pyro_dwp.priors.base import PriorFamily
from pyro_dwp.priors.deep_weight import DeepWeightPrior
from pyro_dwp.sites import WeightSite, has_voxels

Answer = TypeVar("Answer")
PATTERNS = (
    "The name {name!r} looks like a regular expression, but names are shell patterns: * stands for any characters, ? for one, "
    "and a dot for itself."
)


@dataclass(frozen=True)
class Rule:
    """A prior and the parameters that it is for: those that meet every criterion given; without any, all.

    Args:
        prior: of these parameters; null (None) keeps them point parameters. It must be given: "undecided" is refused.
        name: of the parameter, such as "final_conv.weight", or a shell pattern, such as "up1.*" or "*.bias".
        module: class of its layer, or a base of it, such as "Conv3d", "ConvTranspose3d" or "Linear".
        kernel_size: edge of the kernel in every dimension, in voxels, or a list with the edge in each.
        group: of kernels, such as "1".
    """

    prior: PriorFamily | Literal["undecided"] | None = "undecided"
    name: str | None = None
    module: str | None = None
    kernel_size: int | list[int] | None = None
    group: str | int | None = None

    @property
    def criteria(self) -> dict[str, Any]:
        """The criteria given, by name."""
        given = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "prior"}
        return {criterion: value for criterion, value in given.items() if value is not None}

    def fits(self, site: WeightSite) -> bool:
        """Tell whether a parameter meets every criterion.

        Example:
            >>> site = WeightSite("up1.conv_1.weight", torch.Size([8, 4, 3, 3]), "5", ("Conv2d", "_ConvNd"))
            >>> Rule(None, name="up1.*", kernel_size=3).fits(site), Rule(None, module="Linear").fits(site)
            (True, False)
        """
        return all(_meets(site, criterion, wanted) for criterion, wanted in self.criteria.items())

    @property
    def over(self) -> str:
        """The criteria given, in words."""
        return ", ".join(f"{criterion} {value}" for criterion, value in self.criteria.items()) or "any parameter"

    def __str__(self) -> str:
        return f"{self.over}: {type(self.prior).__name__ if isinstance(self.prior, PriorFamily) else 'no prior'}"


class Assigned(PriorFamily):
    """A prior for each parameter by rules; the first rule that fits wins.

    Call `check` with all parameters of a network before inference, as `models/segmentation.py` does.

    Args:
        rules: in order, each with a `prior` and any of the criteria `name`, `module`, `kernel_size` and `group`.

    Raises:
        ConfigError: if there are no rules, or one without a `prior`; at a convolution with kernels of more than one voxel, if
            no rule fits it.

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
        for number, rule in enumerate(rules, start=1):
            if rule.prior == "undecided":
                raise ConfigError(
                    f"Rule {number} of {len(rules)}, over {rule.over}, does not say which prior. Add one, such as "
                    "prior: gaussian, or prior: null, which keeps these parameters point parameters."
                )
        self.rules = list(rules)
        self.priors = nn.ModuleList([rule.prior for rule in rules if isinstance(rule.prior, PriorFamily)])
        self._owners: dict[str, int] | None = None  # group → index of the rule with its implicit prior, once checked

    def exposes(self, site: WeightSite) -> bool:
        """Tell whether the first rule that fits gives this parameter a prior."""
        index = self._choose(site)
        return index is not None and isinstance(self.rules[index].prior, PriorFamily)

    def distribution(self, site: WeightSite) -> TorchDistribution:
        """Return the prior of one kernel of this site, from the first rule that fits."""
        return self._ask(site, lambda prior: prior.distribution(site))

    def site_distribution(self, site: WeightSite) -> TorchDistribution:
        """Return the prior of a whole site, from the first rule that fits."""
        return self._ask(site, lambda prior: prior.site_distribution(site))

    def check(self, parameters: Collection[WeightSite]) -> None:
        """Refuse rules that decide on no parameter of a network, and priors that do not fit theirs or each other.

        A rule without criteria is a fallback and may have nothing to decide.

        Args:
            parameters: all of a network, as `weight_sites(network, groups, lambda site: True).values()` gives them.

        Raises:
            ConfigError: if a rule fits no parameter, or only such as an earlier one decides on; if a prior does not fit
                a site; if two rules give kernels of one group implicit priors with different decoders.
        """
        for number, rule in enumerate(self.rules, start=1):
            if rule.criteria and not any(rule.fits(site) for site in parameters):
                raise ConfigError(f"Rule {number} of {len(self.rules)}, {rule}, {_misfit(rule, parameters)}")
        chosen = [(site, self._choose(site)) for site in parameters]
        used = {index for _, index in chosen}
        fallback = next((index for index, rule in enumerate(self.rules) if not rule.criteria), None)
        for number, rule in enumerate(self.rules, start=1):
            if number - 1 not in used | {fallback}:
                raise ConfigError(
                    f"Rule {number} of {len(self.rules)}, {rule}, fits only parameters that rules before it decide on. Put it "
                    "before them, or leave it out."
                )
        super().check(parameters)
        owners: dict[str, tuple[int, DeepWeightPrior]] = {}
        for site, index in chosen:
            prior = self.distribution(site) if self.exposes(site) else None
            if index is not None and isinstance(prior, DeepWeightPrior):
                first, owner = owners.setdefault(prior.group, (index, prior))
                if not _alike(owner.decoder, prior.decoder):
                    raise ConfigError(_two_decoders(prior.group, first, index))
        self._owners = {group: index for group, (index, _) in owners.items()}

    def encoders(self) -> dict[str, nn.Module]:
        """Return, for each group with an implicit prior, the auxiliary encoder that comes with this prior.

        After `check`, these are the groups that the network has.

        Raises:
            ConfigError: before `check`, if two rules offer different encoders for one group.
        """
        offered = [rule.prior.encoders() if isinstance(rule.prior, PriorFamily) else {} for rule in self.rules]
        if self._owners is not None:
            return {group: offered[index][group] for group, index in self._owners.items()}
        merged: dict[str, tuple[int, nn.Module]] = {}
        for index, encoders in enumerate(offered):
            for group, encoder in encoders.items():
                first, owner = merged.setdefault(group, (index, encoder))
                if not _alike(owner, encoder):
                    raise ConfigError(_two_decoders(group, first, index))
        return {group: encoder for group, (_, encoder) in merged.items()}

    def _check_values(self, site: WeightSite) -> None:
        self._ask(site, lambda prior: prior._check_values(site))

    def _ask(self, site: WeightSite, question: Callable[[PriorFamily], Answer]) -> Answer:
        index = self._choose(site)
        prior = self.rules[index].prior if index is not None else None
        if index is None or not isinstance(prior, PriorFamily):
            raise ConfigError(
                f"{_describe(site)} has no prior: {self._listing()}. Give it one by a rule, or ask only for sites that the "
                "rules expose."
            )
        try:
            return question(prior)
        except PyroDwpError as error:
            raise type(error)(
                f"{error} (Rule {index + 1} of {len(self.rules)}, {self.rules[index]}, chose this prior. Narrow it, or put "
                "before it a rule for what it should leave out.)"
            ) from error

    def _choose(self, site: WeightSite) -> int | None:
        """Return the index of the first rule that fits a parameter; None where a parameter may do without."""
        index = next((index for index, rule in enumerate(self.rules) if rule.fits(site)), None)
        if index is None and has_voxels(site):
            raise ConfigError(
                f"Every convolution with kernels of more than one voxel needs a rule, but none fits {_describe(site)}: "
                f"{self._listing()}. Add one: {{name: {site.name}, prior: gaussian}} gives it a prior, prior: null keeps "
                "it a point parameter."
            )
        return index

    def _listing(self) -> str:
        return "the rules are, in order, " + "; ".join(f"{n}. {rule}" for n, rule in enumerate(self.rules, start=1))


def _meets(site: WeightSite, criterion: str, wanted: Any) -> bool:
    if criterion == "name":
        return fnmatchcase(site.name, wanted)
    if criterion == "module":
        return wanted in site.layer
    if criterion == "group":
        return str(wanted) == site.group
    edges = list(site.kernel_shape)
    return bool(edges) and edges == ([wanted] * len(edges) if isinstance(wanted, int) else list(wanted))


def _is_expression(expression: str, name: str) -> bool:
    """Tell whether a name fits as a regular expression what it does not fit as a shell pattern."""
    try:
        return re.fullmatch(expression, name) is not None and not fnmatchcase(name, expression)
    except re.error:
        return False


def _describe(site: WeightSite) -> str:
    layer = site.layer[0] if site.layer else "unknown layer"
    size = "x".join(map(str, site.kernel_shape)) or "none"
    return f"{site.name!r} ({layer}, kernel size {size}, group {site.group!r})"


def _misfit(rule: Rule, parameters: Collection[WeightSite]) -> str:
    """Say why a rule fits no parameter, and what would."""
    known = {
        "name": {site.name for site in parameters},
        "module": {name for site in parameters for name in site.layer},
        "kernel_size": {str(list(site.kernel_shape)) for site in parameters if site.kernel_shape},
        "group": {site.group for site in parameters},
    }
    for criterion, wanted in rule.criteria.items():
        if not any(_meets(site, criterion, wanted) for site in parameters):
            hint = ""
            if criterion == "name" and any(_is_expression(wanted, name) for name in known["name"]):
                hint = f"{PATTERNS.format(name=wanted)} "
            return f"fits no parameter, since none has this {criterion}. {hint}{suggest(str(wanted), known[criterion])}"
    return "fits no parameter: each of its criteria is met by some, but all together by none. Drop one."


def _two_decoders(group: str, first: int, second: int) -> str:
    earlier, later = sorted((first + 1, second + 1))
    return (
        f"Kernels of one group share an implicit prior, since the ELBO finds its encoder by the group, but rules {earlier} "
        f"and {later} bring different ones for group {group!r}. Use one of the two files in both, or narrow the rules "
        "to groups of their own."
    )


def _alike(first: nn.Module, second: nn.Module) -> bool:
    """Tell whether two modules compute the same: they are one, or of one class with equal tensors."""
    if first is second:
        return True
    mine, theirs = first.state_dict(), second.state_dict()
    same = type(first) is type(second) and mine.keys() == theirs.keys()
    return same and all(torch.equal(mine[name], theirs[name]) for name in mine)
