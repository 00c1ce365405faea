"""What any prior and any guide promise together, in two and three dimensions."""

import importlib.util
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyro
import pytest
import torch
from pyro.infer import SVI, Predictive
from torch import Tensor

import guides
from guides import Guide
from models.segmentation import SegmentationModel
from pyro_dwp import priors
from pyro_dwp.errors import ConfigError
from pyro_dwp.infer import AuxiliaryELBO
from pyro_dwp.likelihoods import DiceCrossEntropy
from pyro_dwp.nn import UNet
from pyro_dwp.priors import PriorFamily, Rule
from pyro_dwp.sites import WeightSite
from pyro_dwp.train import JointAdam, configure_pyro
from pyro_dwp.transfer import save_network, start_weights

_spec = importlib.util.spec_from_file_location("fitted", Path(__file__).parent / "priors" / "fitted.py")
fitted = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fitted)

CHANNELS = (2, 4)
SEEDS = (0, 1, 2)  # of the steps: an ensemble draws its member first, so that the first two of these meet both members
Paths = dict[str, str]
PRIORS: dict[str, Callable[[Paths], PriorFamily]] = {
    "gaussian": lambda paths: priors.Gaussian(),
    "laplace": lambda paths: priors.Laplace(),
    "student_t": lambda paths: priors.StudentT(),
    "student_t, per kernel": lambda paths: priors.StudentT(per="kernel"),
    "scale_mixture": lambda paths: priors.ScaleMixture(),
    "pretrained": lambda paths: priors.Pretrained(paths["network"]),
    "empirical": lambda paths: priors.Empirical(paths["empirical"]),
    "empirical, Student t": lambda paths: priors.Empirical(paths["student_t"]),
    "mixture": lambda paths: priors.Mixture(paths["mixture"]),
    "flow": lambda paths: priors.Flow(paths["flow"]),
    "deep_weight": lambda paths: priors.DeepWeight(paths["deep_weight"]),
    "assigned": lambda paths: priors.Assigned(
        [Rule(priors.DeepWeight(paths["deep_weight"]), kernel_size=3), Rule(priors.Laplace(), kernel_size=1)]
    ),
}
GUIDES: dict[str, Callable[..., Guide]] = {
    "point": lambda paths, *given: guides.Point(*given),
    "mean_field": lambda paths, *given: guides.MeanField(*given),
    "kernel_covariance": lambda paths, *given: guides.KernelCovariance(*given),
    "kernel_covariance, each": lambda paths, *given: guides.KernelCovariance(*given, shared=False),
    "low_rank": lambda paths, *given: guides.LowRank(*given, rank=2),
    "matrix_normal": lambda paths, *given: guides.MatrixNormal(*given),
    "ensemble": lambda paths, *given: guides.Ensemble(*given, members=2),
    "ensemble of points": lambda paths, *given: guides.Ensemble(*given, guide=guides.Point, members=2),
    "latent": lambda paths, *given: guides.Latent(*given, path=paths["deep_weight"]),
    "AutoNormal": lambda paths, *given: guides.auto.AutoNormal(*given),
    "AutoDiagonalNormal": lambda paths, *given: guides.auto.AutoDiagonalNormal(*given),
    "AutoLowRank": lambda paths, *given: guides.auto.AutoLowRankMultivariateNormal(*given),
    "AutoDelta": lambda paths, *given: guides.auto.AutoDelta(*given),
}
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
        save_network(folder / "network.safetensors", UNet(channels=CHANNELS, ndim=ndim), {})
        found[ndim] = {"network": str(folder / "network.safetensors"), **fitted.fitted_priors(folder, ndim)}
    return {ndim: {name: str(path) for name, path in paths.items()} for ndim, paths in found.items()}


class RecordingAdam(JointAdam):
    """Keeps, for each parameter, whether all of its gradients so far were finite."""

    def __init__(self, *arguments, **settings) -> None:
        super().__init__(*arguments, **settings)
        self.finite: dict[int, bool] = {}

    def __call__(self, params, *arguments, **settings) -> None:
        for key, parameter in self._known.items():
            if parameter.grad is not None:
                self.finite[key] = self.finite.get(key, True) and bool(parameter.grad.isfinite().all())
        super().__call__(params, *arguments, **settings)


@dataclass
class Inference:
    """A program after a few steps."""

    model: SegmentationModel
    guide: Guide
    elbo: AuxiliaryELBO
    adam: RecordingAdam
    losses: list[float]
    image: Tensor
    label: Tensor
    again: Callable[[], Guide]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{case[1]}-{case[2]}-D")
def ran(paths: dict[int, Paths], request: pytest.FixtureRequest) -> Inference:
    prior_name, guide_name, ndim = request.param
    device = request.config.getoption("--device")
    configure_pyro()
    pyro.set_rng_seed(0)
    network = UNet(channels=CHANNELS, ndim=ndim)
    prior = PRIORS[prior_name](paths[ndim])
    model = SegmentationModel(network, prior, DiceCrossEntropy())

    def new_guide() -> Guide:
        return GUIDES[guide_name](paths[ndim], model.sites, start_weights("prior", model.sites, network, prior))

    guide = new_guide()
    elbo = AuxiliaryELBO(prior.encoders(), kernels_per_group=4)
    for module in (model, guide, elbo.encoders):
        module.to(device)
    adam = RecordingAdam({"theta": [guide, model], "psi": [elbo.encoders]}, {"theta": 1e-3, "psi": 1e-4})
    svi = SVI(model, guide, adam, elbo)
    image = torch.randn(2, 1, *[8] * ndim, device=device)
    label = torch.randint(2, (2, *[8] * ndim), device=device)
    losses = []
    for seed in SEEDS:
        pyro.set_rng_seed(seed)
        losses.append(svi.step(image, label))
    return Inference(model, guide, elbo, adam, losses, image, label, new_guide)


def trained(ran: Inference) -> dict[str, Tensor]:
    """Name → parameter, for every one that is to be trained: of the guide, the model and the auxiliary encoders."""
    modules = {"guide": ran.guide, "model": ran.model, "encoders": ran.elbo.encoders}
    named = [(f"{key}.{name}", p) for key, module in modules.items() for name, p in module.named_parameters()]
    return {name: parameter for name, parameter in named if parameter.requires_grad}


def test_three_steps_have_finite_losses_and_gradients_in_every_parameter(ran: Inference) -> None:
    parameters = trained(ran)
    assert {id(parameter) for parameter in parameters.values()} == set(ran.adam._known)
    assert any(name.startswith("guide.") for name in parameters)
    assert any(name.startswith("encoders.") for name in parameters) == bool(ran.model.prior.encoders())
    assert torch.tensor(ran.losses).isfinite().all()
    without = [name for name, parameter in parameters.items() if not ran.adam.finite.get(id(parameter), False)]
    assert not without


def test_the_guide_samples_every_site_in_its_shape(ran: Inference) -> None:
    drawn = ran.guide(ran.image, ran.label)
    assert {name: value.shape for name, value in drawn.items()} == {
        n: site.shape for n, site in ran.model.sites.items()
    }
    assert all(value.isfinite().all() for value in drawn.values())


def test_a_state_dict_round_trip_restores_the_posterior(ran: Inference) -> None:
    other = ran.again().to(ran.image.device)
    other.load_state_dict(ran.guide.state_dict())
    draws = []
    for guide in (ran.guide, other):
        pyro.set_rng_seed(1)
        draws.append(guide(ran.image))
    assert all(torch.equal(draws[0][name], draws[1][name]) for name in ran.model.sites)


def test_predictive_draws_from_the_posterior(ran: Inference) -> None:
    """Its weights are those that the guide returned in its last two runs, and its logits the network's with them."""
    drawn: list[dict[str, Tensor]] = []
    hook = ran.guide.register_forward_hook(lambda module, arguments, weights: drawn.append(weights))
    predictive = Predictive(ran.model, guide=ran.guide, num_samples=2, return_sites=(*ran.model.sites, "_RETURN"))
    found = predictive(ran.image)
    hook.remove()
    assert found["_RETURN"].shape == (2, 2, 2, *ran.image.shape[2:])
    for number, weights in enumerate(drawn[-2:]):
        assert all(torch.equal(found[name][number], weights[name]) for name in ran.model.sites)
        with torch.no_grad():
            torch.testing.assert_close(found["_RETURN"][number], ran.model.network(weights, ran.image))
    assert found["_RETURN"].isfinite().all()


def test_the_program_moves_to_another_dtype(ran: Inference) -> None:
    """Last, because it moves the program for good."""
    for module in (ran.model, ran.guide, ran.elbo.encoders):
        module.double()
    image = ran.image.double()
    for seed in SEEDS[: 2 if isinstance(ran.guide, guides.Ensemble) else 1]:
        pyro.set_rng_seed(seed)
        loss = ran.elbo.differentiable_loss(ran.model, ran.guide, image, ran.label)
        loss.backward()
        assert loss.dtype == torch.float64
        assert loss.isfinite()
        assert not wrong_doubles(ran.guide(image))
    assert not wrong_doubles({name: parameter.grad for name, parameter in trained(ran).items()})


def wrong_doubles(values: Mapping[str, Tensor | None]) -> list[str]:
    """Return the names of those that are absent, not float64 or not finite."""
    return [name for name, x in values.items() if x is None or x.dtype != torch.float64 or not bool(x.isfinite().all())]


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_latent_guide_refuses_the_1x1x1_kernels_that_rules_make_random(ndim: int, paths: dict[int, Paths]) -> None:
    model = SegmentationModel(UNet(channels=CHANNELS, ndim=ndim), PRIORS["assigned"](paths[ndim]), DiceCrossEntropy())
    start = {name: torch.ones(site.shape) for name, site in model.sites.items()}
    name = next(name for name, site in model.sites.items() if site.kernel_shape.numel() == 1)
    with pytest.raises(ConfigError, match=rf"latent guide.*'{re.escape(name)}'.*kernels of one weight"):
        GUIDES["latent"](paths[ndim], model.sites, start)


@pytest.mark.parametrize("name", ["flow", "mixture", "empirical", "deep_weight"])
def test_a_prior_fitted_to_other_kernels_is_refused_for_1x1x1_ones_with_the_cure(
    name: str, paths: dict[int, Paths]
) -> None:
    site = WeightSite("head.weight", torch.Size([2, 4, 1, 1, 1]), "1x1x1")
    with pytest.raises(ConfigError, match=r"head\.weight.*assigned"):
        PRIORS[name](paths[3]).site_distribution(site)
