"""What any prior and any guide promise together, in two and three dimensions."""

import importlib.util
from collections.abc import Callable
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

CHANNELS, STEPS = (2, 4), 3
Paths = dict[str, str]
PRIORS: dict[str, Callable[[Paths], PriorFamily]] = {
    "gaussian": lambda paths: priors.Gaussian(),
    "laplace": lambda paths: priors.Laplace(),
    "student_t": lambda paths: priors.StudentT(),
    "student_t, per kernel": lambda paths: priors.StudentT(per="kernel"),
    "scale_mixture": lambda paths: priors.ScaleMixture(),
    "pretrained": lambda paths: priors.Pretrained(paths["network"]),
    "empirical": lambda paths: priors.Empirical(paths["empirical"]),
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
    "latent": lambda paths, *given: guides.Latent(*given, path=paths["deep_weight"]),
    "AutoNormal": lambda paths, *given: guides.auto.AutoNormal(*given),
    "AutoLowRank": lambda paths, *given: guides.auto.AutoLowRankMultivariateNormal(*given),
}


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


@pytest.fixture(scope="module", params=[2, 3], ids=["2-D", "3-D"])
def ndim(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(scope="module", params=PRIORS)
def prior_name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module", params=GUIDES)
def guide_name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def ran(
    prior_name: str, guide_name: str, ndim: int, paths: dict[int, Paths], request: pytest.FixtureRequest
) -> Inference:
    if (prior_name, guide_name) == ("assigned", "latent"):
        pytest.skip("the latent guide is for kernels that its decoder knows; refused in a test below")
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
    losses = [svi.step(image, label) for _ in range(STEPS)]
    return Inference(model, guide, elbo, adam, losses, image, label, new_guide)


def test_three_steps_have_finite_losses_and_gradients_in_every_parameter(ran: Inference, guide_name: str) -> None:
    assert torch.tensor(ran.losses).isfinite().all()
    assert all(ran.adam.finite.values())
    trained = {name: id(p) in ran.adam.finite for name, p in ran.guide.named_parameters() if p.requires_grad}
    assert trained
    if guide_name == "ensemble":  # a step trains one member
        assert any(trained.values())
    else:
        assert all(trained.values()), [name for name, has in trained.items() if not has]


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
    predictive = Predictive(ran.model, guide=ran.guide, num_samples=2, return_sites=("_RETURN",))
    logits = predictive(ran.image)["_RETURN"]
    assert logits.shape == (2, 2, 2, *ran.image.shape[2:])
    assert logits.isfinite().all()


def test_the_program_moves_to_another_dtype(ran: Inference) -> None:
    """Last, because it moves the program for good."""
    for module in (ran.model, ran.guide, ran.elbo.encoders):
        module.double()
    loss = ran.elbo.differentiable_loss(ran.model, ran.guide, ran.image.double(), ran.label)
    loss.backward()
    assert loss.dtype == torch.float64
    assert loss.isfinite()


@pytest.mark.parametrize("name", ["flow", "mixture", "empirical", "deep_weight"])
def test_a_prior_fitted_to_other_kernels_is_refused_for_1x1x1_ones_with_the_cure(
    name: str, paths: dict[int, Paths]
) -> None:
    site = WeightSite("head.weight", torch.Size([2, 4, 1, 1, 1]), "1x1x1")
    with pytest.raises(ConfigError, match=r"head\.weight.*assigned"):
        PRIORS[name](paths[3]).site_distribution(site)
