"""What any prior and any guide promise together, in two and three dimensions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import pyro
import pytest
import torch
from pyro.infer import Predictive
from torch import Tensor

from guides import Guide, Latent, MeanField
from models.segmentation import SegmentationModel
from pyro_dwp import priors
from pyro_dwp.errors import ConfigError
from pyro_dwp.infer import AuxiliaryELBO
from pyro_dwp.likelihoods import DiceCrossEntropy
from pyro_dwp.nn import UNet, save_network
from pyro_dwp.priors import Prior, Rule
from pyro_dwp.sites import WeightSite
from pyro_dwp.train import SVI, JointAdam
from pyro_dwp.transfer import start_function
from tests.helpers import fitted
from tests.helpers.examples import example
from tests.helpers.guides import GUIDES as EVERY
from tests.helpers.guides import assert_same_draws
from tests.helpers.refusal import refuses

CHANNELS = (2, 4)
EDGE = 4  # of the images
Paths = dict[str, str]
PRIORS: dict[str, Callable[[Paths], Prior]] = {
    "gaussian": lambda paths: priors.Gaussian(),
    "laplace": lambda paths: priors.Laplace(),
    "student_t": lambda paths: priors.StudentT(),
    "student_t, per kernel": lambda paths: priors.StudentT(per="kernel"),
    "scale_mixture": lambda paths: priors.ScaleMixture(),
    "pretrained": lambda paths: priors.Pretrained(paths["network"]),
    "source_posterior": lambda paths: priors.SourcePosterior(paths["source"]),
    "empirical": lambda paths: priors.Empirical(paths["empirical"]),
    "empirical, Student t": lambda paths: priors.Empirical(paths["student_t"]),
    "mixture": lambda paths: priors.Mixture(paths["mixture"]),
    "flow": lambda paths: priors.Flow(paths["flow"]),
    "deep_weight": lambda paths: priors.DeepWeight(paths["deep_weight"]),
    "assigned": lambda paths: priors.Assigned(
        [Rule(priors.DeepWeight(paths["deep_weight"]), kernel_size=3), Rule(priors.Laplace(), kernel_size=1)]
    ),
}
GUIDES = {name: build for name, build in EVERY.items() if "Multivariate" not in name and "of AutoNormal" not in name}
GUIDES["latent"] = Latent
REFUSED = {("assigned", "latent")}  # 1x1x1 kernels are random there, and no decoder knows them; see the test below
CASES = [
    (prior, guide, ndim) for prior in PRIORS for guide in GUIDES for ndim in (2, 3) if (prior, guide) not in REFUSED
]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Paths]:
    """A source network and priors fitted to a few kernels, for each number of dimensions."""
    found = {}
    for ndim in (2, 3):
        folder = tmp_path_factory.mktemp(f"fitted-{ndim}")
        for cycle in range(2):
            network = UNet(channels=CHANNELS, ndim=ndim)
            save_network(folder / "networks" / f"{cycle}.safetensors", network, {"network": 0, "cycle": cycle})
        found[ndim] = {
            "source": folder,
            "network": folder / "networks" / "0.safetensors",
            **fitted.fitted_priors(folder, ndim),
        }
    return {ndim: {name: str(path) for name, path in paths.items()} for ndim, paths in found.items()}


@dataclass
class Inference:
    """A program after a step with each of these seeds."""

    prior: Prior
    build: Callable[..., Guide]
    ndim: int
    device: str
    seeds: Sequence[int]

    def __post_init__(self) -> None:
        pyro.set_rng_seed(0)
        network, grid = UNet(channels=CHANNELS, ndim=self.ndim), [EDGE] * self.ndim
        model = self.model = SegmentationModel(network, self.prior, DiceCrossEntropy())
        guide, elbo = self.build(model.sites), AuxiliaryELBO(self.prior.encoders(), kernels_per_group=4)
        self.guide, self.elbo = guide, elbo
        guide.start(start_function("prior", model.sites, network, self.prior), self.prior)
        self.modules = {"model": model, "guide": guide, "encoders": elbo.encoders}
        for module in self.modules.values():
            module.to(self.device)
        optim = JointAdam(
            {"posterior": [guide, model], "encoders": [elbo.encoders]}, {"posterior": 1e-3, "encoders": 1e-4}
        )
        svi, self.losses, self.learns = SVI(model, guide, optim, elbo), [], {}
        self.image = torch.randn(2, 1, *grid, device=self.device)
        self.label = torch.randint(2, (2, *grid), device=self.device)
        for name, parameter in self.trained().items():
            parameter.register_post_accumulate_grad_hook(partial(self.note, name))
        for seed in self.seeds:
            pyro.set_rng_seed(seed)
            self.losses.append(svi.step(self.image, self.label, 5))

    def trained(self) -> dict[str, Tensor]:
        """Name → parameter, for every one that is to be trained."""
        named = [(f"{key}.{name}", p) for key, module in self.modules.items() for name, p in module.named_parameters()]
        return {name: parameter for name, parameter in named if parameter.requires_grad}

    def note(self, name: str, parameter: Tensor) -> None:
        """Keep whether all gradients of a parameter so far were finite, and none 0, but of a 1 x 1 factor of determinant 1."""
        good = parameter.grad.isfinite().all() and (parameter.grad.any() or parameter.numel() == 1)
        self.learns[name] = self.learns.get(name, True) and bool(good)


@pytest.mark.parametrize(("prior", "guide", "ndim"), CASES)
def test_any_prior_and_guide_learn_and_are_restored_and_predict_in_any_precision(prior, guide, ndim, paths, request):
    build = GUIDES[guide]
    if guide == "latent" and prior != "deep_weight":  # that gives its own decoder, any other needs a file
        build = partial(Latent, path=paths[ndim]["deep_weight"])
    # An ensemble draws its member first, so that these seeds meet both.
    seeds = (0, 1) if "ensemble" in guide else (0,)
    ran = Inference(PRIORS[prior](paths[ndim]), build, ndim, request.config.getoption("--device"), seeds)
    check_gradients(ran)
    other = build(ran.model.sites).to(ran.image.device)
    other.load_state_dict(ran.guide.state_dict())
    assert_same_draws(ran.guide, other)
    check_predictive(ran)
    check_doubles(ran)


def check_gradients(ran: Inference) -> None:
    """Losses are finite, and so are the gradients of every parameter."""
    parameters = ran.trained()
    assert any(name.startswith("guide.") for name in parameters)
    assert any(name.startswith("encoders.") for name in parameters) == bool(ran.prior.encoders())
    assert torch.tensor(ran.losses).isfinite().all()
    assert [name for name in parameters if not ran.learns.get(name, False)] == []


def check_predictive(ran: Inference) -> None:
    """Its weights are those that the guide returned in its last two runs, and its logits the network's with them."""
    drawn: list[dict[str, Tensor]] = []
    hook = ran.guide.register_forward_hook(lambda module, arguments, weights: drawn.append(weights))
    predictive = Predictive(ran.model, guide=ran.guide, num_samples=2, return_sites=(*ran.model.sites, "_RETURN"))
    found = predictive(ran.image)
    hook.remove()
    assert found["_RETURN"].shape == (2, 2, 2, *ran.image.shape[2:])
    for number, weights in enumerate(drawn[-2:]):
        assert {name: w.shape for name, w in weights.items()} == {n: s.shape for n, s in ran.model.sites.items()}
        assert all(torch.equal(found[name][number], weights[name]) for name in ran.model.sites)
        with torch.no_grad():
            torch.testing.assert_close(found["_RETURN"][number], ran.model.network(weights, ran.image))
    assert found["_RETURN"].isfinite().all()


def check_doubles(ran: Inference) -> None:
    """Moved to float64, draws and every gradient are float64 and finite."""
    for module in ran.modules.values():
        module.double()
    for seed in ran.seeds:
        pyro.set_rng_seed(seed)
        ran.elbo.differentiable_loss(ran.model, ran.guide, ran.image.double(), ran.label, 5).backward()
    found = {**ran.guide(ran.image), **{name: parameter.grad for name, parameter in ran.trained().items()}}
    assert [n for n, x in found.items() if x is None or x.dtype != torch.float64 or not x.isfinite().all()] == []


def test_the_latent_guide_refuses_the_1x1x1_kernels_that_rules_make_random(paths: dict[int, Paths]) -> None:
    with refuses("latent guide", "'down1.down.weight'", error=ConfigError):
        Inference(PRIORS["assigned"](paths[2]), Latent, 2, "cpu", ())


def test_an_implicit_prior_of_ones_own_is_bounded_and_trained() -> None:
    """The loss of the last 20 of 80 steps is below that of the first 20."""
    ran = Inference(example("implicit_prior", "Waves")(), MeanField, 3, "cpu", range(80))
    check_gradients(ran)
    assert sum(ran.losses[-20:]) < sum(ran.losses[:20])
    assert ran.elbo.parts["kl_latent"] > 0


@pytest.mark.parametrize("name", ["flow", "mixture", "empirical", "deep_weight"])
def test_a_prior_fitted_to_other_kernels_is_refused_for_1x1x1_ones_with_the_cure(name, paths):
    site = WeightSite("head.weight", torch.Size([2, 4, 1, 1, 1]), "1x1x1")
    with refuses("head.weight", "assigned", error=ConfigError):
        PRIORS[name](paths[3]).site_distribution(site)
