"""Rules: which parameter each selects, in what order, what is refused, and inference under several priors at once."""

import copy
from fnmatch import fnmatchcase

import pyro
import pytest
import torch
from pyro.distributions import Normal, TorchDistribution
from torch import nn

from pyro_dwp.distributions import ImplicitPrior
from pyro_dwp.errors import ConfigError
from pyro_dwp.infer import AuxiliaryELBO
from pyro_dwp.nn import UNet
from pyro_dwp.priors import Assigned, DeepWeightDensity, Gaussian, Laplace, Prior, Rule
from pyro_dwp.sites import WeightSite, weight_sites
from tests.helpers.refusal import refuses

GROUPS = ("1", "2", "3", "4", "5")


class Implicit(Prior):
    """An implicit prior for 3x3 kernels of these groups."""

    def __init__(self, *groups: str, latent: int = 2) -> None:
        super().__init__()
        densities = {group: DeepWeightDensity((3, 3), latent=latent, hidden=8, kernel_scale=0.1) for group in groups}
        self.densities, self.latent = nn.ModuleDict(densities).requires_grad_(False), latent

    def distribution(self, site: WeightSite) -> TorchDistribution:
        if site.group not in self.densities:
            raise ConfigError(f"no decoder for group {site.group}.")
        return self.densities[site.group].distribution(site.group)

    def encoders(self) -> dict[str, nn.Module]:
        return {group: copy.deepcopy(each.encoder).requires_grad_(True) for group, each in self.densities.items()}


class Flat(Prior):
    """Returns a distribution of another shape than the kernel's."""

    def distribution(self, site: WeightSite) -> TorchDistribution:
        return Gaussian(scale=1.0).distribution(WeightSite("v", torch.Size([1, 1, 5]), "1"))


def zoo() -> nn.Module:
    """Return a network with every kind of layer."""
    layers = {"conv": nn.Conv3d(1, 4, 3), "flat": nn.Conv3d(4, 4, (3, 3, 1)), "norm": nn.BatchNorm3d(4)}
    return nn.ModuleDict(
        {**layers, "up": nn.ConvTranspose3d(4, 2, 2), "point": nn.Conv3d(2, 2, 1), "line": nn.Linear(2, 3)}
    )


def unet() -> UNet:
    return UNet(channels=(2, 4, 4), ndim=2)


def parameters(network: nn.Module) -> dict[str, WeightSite]:
    return weight_sites(network, expose=lambda _: True)


def check(prior: Assigned, network: nn.Module) -> Assigned:
    prior.check(parameters(network).values())
    return prior


@pytest.mark.parametrize(
    ("criteria", "selected"),
    [
        ({"name": "up*"}, ["up.weight", "up.bias"]),
        ({"name": "*.bias"}, ["conv.bias", "flat.bias", "norm.bias", "up.bias", "point.bias", "line.bias"]),
        ({"name": "line.weight"}, ["line.weight"]),
        ({"module": "Conv3d"}, ["conv.weight", "conv.bias", "flat.weight", "flat.bias", "point.weight", "point.bias"]),
        ({"module": "ConvTranspose3d"}, ["up.weight", "up.bias"]),
        ({"module": "Linear"}, ["line.weight", "line.bias"]),
        ({"module": "_BatchNorm"}, ["norm.weight", "norm.bias"]),
        ({"kernel_size": 3}, ["conv.weight"]),
        ({"kernel_size": [3, 3, 1]}, ["flat.weight"]),
        ({"kernel_size": 1}, ["point.weight"]),
        ({"kernel_size": 2, "module": "_ConvNd"}, ["up.weight"]),
        ({"module": "Conv3d", "name": "*.bias"}, ["conv.bias", "flat.bias", "point.bias"]),
        ({"group": "3x3x3"}, ["conv.weight"]),
        ({"group": "bias", "module": "Linear"}, ["line.bias"]),
        ({}, list(dict(zoo().named_parameters()))),
    ],
)
def test_a_rule_selects_what_meets_all_of_its_criteria(criteria: dict, selected: list[str]) -> None:
    rule = Rule(Gaussian(), **criteria)
    assert [name for name, site in parameters(zoo()).items() if rule.fits(site)] == selected
    assert list(weight_sites(zoo(), expose=Assigned([rule, Rule(None)]).exposes)) == selected


def test_a_group_may_be_given_as_the_number_that_yaml_reads() -> None:
    chosen = [name for name, site in parameters(unet()).items() if Rule(None, group=1).fits(site)]
    assert chosen == [name for name, group in unet().kernel_groups().items() if group == "1"]


@pytest.mark.parametrize("network", [unet(), UNet(channels=(2, 4)), zoo()], ids=["2-D", "3-D", "zoo"])
def test_the_first_rule_that_fits_decides(network: nn.Module) -> None:
    """The last, without criteria, may find nothing left to decide on."""
    patterns = ["up*", "*.weight", None]
    rules = [Rule(Gaussian(scale=number), name=pattern) for number, pattern in enumerate(patterns, 1)]
    prior = check(Assigned(rules), network)
    for name, site in parameters(network).items():
        first = next(number for number, pattern in enumerate(patterns, 1) if fnmatchcase(name, pattern or "*"))
        torch.testing.assert_close(prior.distribution(site).variance, torch.full(site.kernel_shape, float(first**2)))


def test_a_rule_without_prior_hides_and_what_no_rule_fits_stays_a_point() -> None:
    rules = [Rule(None, name="up1.*"), Rule(Laplace(), kernel_size=3), Rule(Gaussian(), name="final_conv.weight")]
    prior = check(Assigned(rules), unet())
    expected = {name for name in unet().kernel_groups() if not name.startswith("up1.")} | {"final_conv.weight"}
    assert weight_sites(unet(), expose=prior.exposes).keys() == expected
    with refuses("'up1.conv_1.weight'", "1. name up1", error=ConfigError):
        prior.distribution(parameters(unet())["up1.conv_1.weight"])


# Refusals.


def second(**criteria: object) -> list[Rule]:
    return [Rule(Gaussian(), kernel_size=3), Rule(Gaussian(), **criteria)]


@pytest.mark.parametrize(
    ("rules", "tokens"),
    [
        (
            [Rule(Gaussian(), name="up*"), Rule(None, kernel_size=1)],
            ("'init_conv.weight' (Conv2d, kernel size 3x3, group '1')", "1. name up*: Gaussian; 2. kernel_size 1: no"),
        ),
        ([Rule(Gaussian()), Rule(None)], ("Rule 2 of 2", "before it")),
        (second(name="upp1.conv_1.weight"), ("Rule 2 of 2", "name", "'up1.conv_1.weight'")),
        (second(module="Conv3d"), ("Rule 2 of 2", "module", "'Conv2d'")),
        (second(kernel_size=[3, 3, 3]), ("Rule 2 of 2", "kernel_size", "[1, 1], [3, 3]")),
        (second(group="8"), ("Rule 2 of 2", "group", "1, 1x1, 2,")),
        (second(name="up1.*", group="1"), ("Rule 2 of 2", "none meets all")),
        (second(name="up1.conv_1.weight"), ("Rule 2 of 2", "before it")),
        *((second(name=name), ("regular expression",)) for name in (".*", r"up1\..*", "up1.conv_[12]+.weight")),
        (
            [Rule(Gaussian(), kernel_size=1), Rule(Implicit("1"), module="Conv2d")],
            ("decoder for group 2", "Rule 2 of 2, module Conv2d"),
        ),
        (
            [Rule(Gaussian(), kernel_size=1), Rule(Flat(), kernel_size=3)],
            ("Flat", "(5,)", "(3, 3)", "Rule 2 of 2, kernel_size 3: Flat"),
        ),
    ],
)
def test_rules_that_cannot_be_applied_are_refused_with_the_reason(rules: list[Rule], tokens: tuple[str, ...]) -> None:
    with refuses(*tokens, error=ConfigError):
        check(Assigned(rules), unet())


def test_no_rules_a_rule_that_does_not_say_which_prior_and_a_criterion_of_the_wrong_type_are_refused() -> None:
    for criterion, value in (("kernel_size", 0), ("kernel_size", 1.5), ("kernel_size", "3"), ("name", 3)):
        with refuses(criterion, error=ConfigError):
            Rule(None, **{criterion: value})
    with refuses("rule", error=ConfigError):
        Assigned([])
    with pytest.raises(TypeError, match="prior"):
        Rule(name="up1.*")


# Implicit priors.


def test_each_rule_with_an_implicit_prior_brings_encoders_under_the_names_of_its_distributions() -> None:
    """Two decoders for one group go together, and one prior may serve two rules; nothing has to be checked first."""
    down, up = Implicit(*GROUPS), Implicit(*GROUPS, latent=3)
    rules = [Rule(down, name="*conv_1.weight", kernel_size=3), Rule(Gaussian(), group="1x1")]
    prior = Assigned([*rules, Rule(up, name="up*"), Rule(down, kernel_size=3)])
    encoders, sites = prior.encoders(), weight_sites(unet(), expose=prior.exposes)
    used = set()
    for site in sites.values():
        found = prior.distribution(site)
        if not isinstance(found, ImplicitPrior):
            continue
        used.add(found.group)
        owner = up if found.group.startswith("3/") else down
        assert found.decoder is owner.densities[site.group].decoder
        assert encoders[found.group].latent_dim == found.latent_dim == owner.latent
        mine, theirs = encoders[found.group], owner.densities[site.group].encoder
        torch.testing.assert_close(mine.state_dict(), theirs.state_dict(), rtol=0, atol=0)
        assert all(a.requires_grad and a is not b for a, b in zip(mine.parameters(), theirs.parameters(), strict=True))
    assert {"1/2", "4/2", "3/4"} <= used <= encoders.keys()
    outer = Assigned([Rule(prior, kernel_size=3)])
    assert {outer.distribution(s).group for s in sites.values() if s.group in GROUPS} == {f"1/{name}" for name in used}
    assert outer.encoders().keys() == {f"1/{group}" for group in encoders}


def test_inference_runs_under_two_decoders_an_explicit_and_no_prior_at_once() -> None:
    first = [Rule(None, name="*.down.weight"), Rule(Laplace(), kernel_size=1)]
    prior = Assigned([*first, Rule(Implicit(*GROUPS), name="*conv_1.*"), Rule(Implicit(*GROUPS), kernel_size=3)])
    sites, elbo = weight_sites(unet(), expose=check(prior, unet()).exposes), AuxiliaryELBO(prior.encoders())
    means = {name: torch.zeros(site.shape, requires_grad=True) for name, site in sites.items()}

    def model() -> None:
        for name, site in sites.items():
            pyro.sample(name, prior.site_distribution(site))

    def guide() -> None:
        for name, mean in means.items():
            pyro.sample(name, Normal(mean, 0.1).to_event(mean.dim()))

    elbo.differentiable_loss(model, guide).backward()
    assert elbo.parts["kl_explicit"] != 0
    assert elbo.parts["kl_latent"] > 0
    used = {distribution.group for site in sites.values() if hasattr(distribution := prior.distribution(site), "group")}
    assert {group.partition("/")[0] for group in used} == {"3", "4"}
    learned = [*means.values(), *(p for group in used for p in elbo.encoders(group).parameters())]
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in learned)


@pytest.mark.parametrize("name", ["up1.conv_1.weight", "final_conv.weight"])
def test_state_and_dtype_of_the_priors_go_with_the_assignment(name: str) -> None:
    first, other = (Assigned([Rule(Implicit(*GROUPS), kernel_size=3), Rule(Laplace())]) for _ in range(2))
    other.load_state_dict(first.state_dict())
    site, drawn = parameters(unet())[name], []
    for prior in (first, other, copy.deepcopy(first)):
        pyro.set_rng_seed(1)
        drawn.append(prior.site_distribution(site).sample())
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0], drawn[2])
    assert first.double().site_distribution(site).sample().dtype == torch.float64
