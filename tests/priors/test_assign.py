"""Rules: which parameter each selects, in what order, what is refused, and inference under several priors at once."""

import copy
from contextlib import nullcontext
from fnmatch import fnmatchcase

import pyro
import pytest
import torch
from pyro.distributions import TorchDistribution
from torch import nn

from guides import MeanField
from models.segmentation import SegmentationModel
from pyro_dwp.cli import instantiate
from pyro_dwp.errors import ConfigError
from pyro_dwp.infer import AuxiliaryELBO
from pyro_dwp.likelihoods import Categorical
from pyro_dwp.nn import UNet
from pyro_dwp.nn.kernel_coders import build_coders
from pyro_dwp.priors import Assigned, DeepWeight, DeepWeightPrior, Gaussian, Laplace, PriorFamily, Rule
from pyro_dwp.sites import WeightSite, weight_sites
from pyro_dwp.train.optim import JointAdam


class Implicit(PriorFamily):
    """An implicit prior for 3x3 kernels of these groups."""

    def __init__(self, *groups: str, latent: int = 2) -> None:
        super().__init__()
        self.coders = nn.ModuleDict({group: build_coders("dense", (3, 3), latent, 0.1, 8) for group in groups})
        self.latent = latent
        self.register_buffer("origin", torch.zeros(()), persistent=False)
        self.requires_grad_(False)

    def distribution(self, site: WeightSite) -> TorchDistribution:
        if site.group not in self.coders:
            raise ConfigError(f"no decoder for group {site.group}.")
        decoder = self.coders[site.group].decoder
        return DeepWeightPrior(decoder, self.latent, site.kernel_shape, site.group, self.origin)

    def encoders(self) -> dict[str, nn.Module]:
        return {group: copy.deepcopy(pair.encoder).requires_grad_(True) for group, pair in self.coders.items()}


def zoo() -> nn.Module:
    """Return a network with every kind of layer."""
    return nn.ModuleDict(
        {
            "conv": nn.Conv3d(1, 4, 3),
            "flat": nn.Conv3d(4, 4, (3, 3, 1)),
            "norm": nn.BatchNorm3d(4),
            "up": nn.ConvTranspose3d(4, 2, 2),
            "point": nn.Conv3d(2, 2, 1),
            "line": nn.Linear(2, 3),
        }
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


def test_a_group_may_be_given_as_the_number_that_yaml_reads() -> None:
    chosen = [name for name, site in parameters(unet()).items() if Rule(None, group=1).fits(site)]
    assert chosen == [name for name, group in unet().kernel_groups().items() if group == "1"]


@pytest.mark.parametrize("network", [unet(), UNet(channels=(2, 4)), zoo()], ids=["2-D", "3-D", "zoo"])
def test_the_first_rule_that_fits_wins(network: nn.Module) -> None:
    patterns = ["up*", "*.weight"]
    rules = [Rule(Gaussian(scale=number + 1), name=pattern) for number, pattern in enumerate(patterns)]
    prior = check(Assigned([*rules, Rule(Gaussian(scale=3))]), network)
    for name, site in parameters(network).items():
        first = next((number for number, pattern in enumerate(patterns) if fnmatchcase(name, pattern)), 2)
        torch.testing.assert_close(prior.distribution(site).variance, torch.full(site.kernel_shape, (first + 1.0) ** 2))


def test_a_rule_without_prior_hides_and_what_no_rule_fits_stays_a_point() -> None:
    rules = [Rule(None, name="up1.*"), Rule(Laplace(), kernel_size=3), Rule(Gaussian(), name="final_conv.weight")]
    prior = check(Assigned(rules), unet())
    exposed = weight_sites(unet(), expose=prior.exposes)
    expected = {name for name in unet().kernel_groups() if not name.startswith("up1.")} | {"final_conv.weight"}
    assert exposed.keys() == expected
    model = SegmentationModel(unet(), prior, Categorical())
    assert {name for name, _ in model.network.network.named_parameters()} == parameters(unet()).keys() - expected
    with pytest.raises(
        ConfigError, match=r"'up1\.conv_1\.weight'.*has no prior: the rules are, in order, 1\. name up1"
    ):
        prior.distribution(parameters(unet())["up1.conv_1.weight"])


def test_a_rule_without_criteria_makes_every_parameter_random() -> None:
    prior = check(Assigned([Rule(Gaussian())]), zoo())
    assert weight_sites(zoo(), expose=prior.exposes).keys() == dict(zoo().named_parameters()).keys()


def test_a_convolution_that_no_rule_fits_is_refused_with_the_rules_and_the_site() -> None:
    prior = Assigned([Rule(Gaussian(), name="up*"), Rule(None, kernel_size=1)])
    with pytest.raises(
        ConfigError,
        match=r"none fits 'init_conv\.weight' \(Conv2d, kernel size 3x3, group '1'\): the rules are, in order, "
        r"1\. name up\*: Gaussian; 2\. kernel_size 1: no prior\. Add one: {name: init_conv\.weight, prior: gaussian}",
    ):
        SegmentationModel(unet(), prior, Categorical())


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (Rule(Gaussian(), name="upp1.conv_1.weight"), r"none has this name.*Did you mean 'up1\.conv_1\.weight'"),
        (Rule(Gaussian(), module="Conv3d"), r"none has this module.*Did you mean 'Conv2d'"),
        (Rule(Gaussian(), kernel_size=[3, 3, 3]), r"none has this kernel_size.*\[1, 1\], \[3, 3\]"),
        (Rule(Gaussian(), group="8"), r"none has this group. Legal names are: 1, 1x1, 2,"),
        (Rule(Gaussian(), name="up1.*", group="1"), "each of its criteria is met by some, but all together by none"),
        (Rule(Gaussian(), name="up1.conv_1.weight"), "fits only parameters that rules before it decide on"),
    ],
)
def test_a_rule_that_decides_on_nothing_is_refused_with_the_reason(rule: Rule, message: str) -> None:
    prior = Assigned([Rule(Gaussian(), kernel_size=3), rule])
    with pytest.raises(ConfigError, match=rf"Rule 2 of 2, .*{message}"):
        check(prior, unet())


def test_a_prior_that_does_not_fit_a_parameter_names_the_rule_that_chose_it() -> None:
    prior = Assigned([Rule(Gaussian(), kernel_size=1), Rule(Implicit("1"), module="Conv2d")])
    with pytest.raises(
        ConfigError, match=r"no decoder for group 2\. \(Rule 2 of 2, module Conv2d: Implicit, chose this"
    ):
        check(prior, unet())

    class Flat(PriorFamily):
        def distribution(self, site: WeightSite) -> TorchDistribution:
            return Gaussian(scale=1.0).distribution(WeightSite("v", torch.Size([1, 1, 5]), "1"))

    with pytest.raises(ConfigError, match=r"but Flat gave .*event shape \(5,\).*Rule 1 of 1, kernel_size 3: Flat"):
        check(Assigned([Rule(Flat(), kernel_size=3)]), unet())


def test_a_fallback_may_have_nothing_to_decide_but_only_one() -> None:
    check(Assigned([Rule(Gaussian(), module="Conv2d"), Rule(None)]), unet())
    with pytest.raises(
        ConfigError, match="Rule 2 of 2, any parameter: no prior, fits only parameters that rules before"
    ):
        check(Assigned([Rule(Gaussian()), Rule(None)]), unet())


def test_no_rules_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least one rule"):
        Assigned([])


def test_the_encoders_are_those_of_the_groups_that_the_network_has() -> None:
    down, up = Implicit("1", "2", "3", "9"), Implicit("2", "3", "4", "5")
    prior = Assigned([Rule(down, name="[id]*", kernel_size=3), Rule(Gaussian(), group="1x1"), Rule(up, kernel_size=3)])
    with pytest.raises(ConfigError, match=r"rules 1 and 3 bring different ones for group '2'"):
        prior.encoders()
    encoders = check(prior, unet()).encoders()
    assert encoders.keys() == {"1", "2", "3", "4", "5"}
    for group, encoder in encoders.items():
        owner = (down if group in ("1", "2", "3") else up).coders[group].encoder
        for mine, theirs in zip(encoder.parameters(), owner.parameters(), strict=True):
            assert torch.equal(mine, theirs)
            assert mine is not theirs
            assert mine.requires_grad


def test_two_implicit_priors_for_one_group_are_refused_unless_they_are_alike() -> None:
    def rules(first: Implicit, second: Implicit) -> Assigned:
        return Assigned([Rule(first, name="*conv_1.weight", kernel_size=3), Rule(second, kernel_size=3)])

    groups = ("1", "2", "3", "4", "5")
    family = Implicit(*groups)
    for other in (Implicit(*groups), Implicit(*groups, latent=3)):
        with pytest.raises(ConfigError, match=r"rules 1 and 2 bring different ones for group '1'"):
            check(rules(family, other), unet())
    for twin in (family, copy.deepcopy(family)):
        assert rules(family, twin).encoders().keys() == set(groups)
        assert check(rules(family, twin), unet()).encoders().keys() == set(groups)


def test_state_and_dtype_of_the_priors_go_with_the_assignment() -> None:
    groups = ("1", "2", "3", "4", "5")
    first, second = (Assigned([Rule(Implicit(*groups), kernel_size=3), Rule(Laplace())]) for _ in range(2))
    second.load_state_dict(first.state_dict())
    sites = parameters(unet())
    for name in ("up1.conv_1.weight", "final_conv.weight"):
        drawn = []
        for prior in (first, second, copy.deepcopy(first)):
            pyro.set_rng_seed(1)
            drawn.append(prior.site_distribution(sites[name]).sample())
        assert torch.equal(drawn[0], drawn[1])
        assert torch.equal(drawn[0], drawn[2])
        assert first.double().site_distribution(sites[name]).sample().dtype == torch.float64
        first.float()


def test_inference_runs_under_an_implicit_an_explicit_and_no_prior_at_once() -> None:
    groups = ("1", "2", "3", "4", "5")
    rules = [Rule(None, name="*.down.weight"), Rule(Implicit(*groups), kernel_size=3), Rule(Laplace(), kernel_size=1)]
    prior = check(Assigned(rules), unet())
    model = SegmentationModel(unet(), prior, Categorical())
    guide = MeanField(model.sites, {name: prior.site_distribution(site).sample() for name, site in model.sites.items()})
    elbo = AuxiliaryELBO(prior.encoders())
    adam = JointAdam({"theta": [guide, model], "psi": [elbo.encoders]}, {"theta": 1e-2, "psi": 1e-2})
    svi = pyro.infer.SVI(model, guide, adam, elbo)
    image, label = torch.randn(1, 1, 8, 8), torch.randint(0, 2, (1, 8, 8))
    for _ in range(2):
        svi.step(image, label)
    assert elbo.parts["kl_explicit"] != 0
    assert elbo.parts["kl_latent"] > 0
    elbo.differentiable_loss(model, guide, image, label).backward()
    learned = [*guide.parameters(), *model.network.parameters(), *elbo.encoders.parameters()]
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in learned)
    points = dict(model.network.network.named_parameters())
    assert points.keys() == {"down1.down.weight", "down3.down.weight"}


def test_rules_are_built_from_a_config_with_short_names_at_any_depth() -> None:
    rules = [
        {"name": "final_conv.weight", "prior": {"class_path": "gaussian", "init_args": {"scale": 0.1}}},
        {"kernel_size": 1, "prior": None},
        {"group": 1, "prior": "gaussian"},
        {"kernel_size": [3, 3, 3], "module": "Conv3d", "prior": "deep_weight"},
    ]
    prior = instantiate(PriorFamily, {"class_path": "assigned", "init_args": {"rules": rules}})
    assert isinstance(prior, Assigned)
    assert [type(rule.prior) for rule in prior.rules] == [Gaussian, type(None), Gaussian, DeepWeight]
    assert prior.rules[0].prior.scale == 0.1
    assert [rule.criteria for rule in prior.rules] == [
        {key: value for key, value in rule.items() if key != "prior"} for rule in rules
    ]
    assert check(prior, UNet()).encoders().keys() == {"2", "3", "4", "5", "6", "7"}
    rules[3]["prior"] = "deep_wight"
    with pytest.raises(
        ConfigError, match=r"prior family\.init_args\.rules\.prior: .*'deep_wight'.*Did you mean 'deep_weight'"
    ):
        instantiate(PriorFamily, {"class_path": "assigned", "init_args": {"rules": rules}})


def test_a_rule_that_does_not_say_which_prior_is_refused_by_its_number() -> None:
    with pytest.raises(ConfigError, match=r"Rule 2 of 2, over name up1\.\*, does not say which prior.*prior: null"):
        Assigned([Rule(Gaussian(), name="up2.*"), Rule(name="up1.*")])
    for given, refused in (({"name": "*"}, True), ({"name": "*", "prior": None}, False)):
        value = {"class_path": "assigned", "init_args": {"rules": [given]}}
        with pytest.raises(ConfigError, match="does not say which") if refused else nullcontext():
            instantiate(PriorFamily, value)


@pytest.mark.parametrize("name", [".*", r"up1\..*", "up1.conv_[12]+.weight"])
def test_a_regular_expression_for_a_name_is_told_from_a_shell_pattern(name: str) -> None:
    for rules in ([Rule(Gaussian(), name=name)], [Rule(Gaussian(), kernel_size=3), Rule(None, name=name)]):
        with pytest.raises(ConfigError, match="looks like a regular expression, but names are shell patterns"):
            check(Assigned([*rules, Rule(None, name="final*")]), unet())
    with pytest.raises(ConfigError) as error:
        check(Assigned([Rule(Gaussian(), kernel_size=3), Rule(None, name="upp1.*")]), unet())
    assert "regular expression" not in str(error.value)
