"""What every estimator of the gradient keeps, what local reparametrisation gives up, and what is refused."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Predictive
from pyro.infer.autoguide import AutoNormal
from torch import Tensor, nn
from torch.nn import functional as F

from guides import Guide, MeanField, Point
from models.segmentation import SegmentationModel
from pyro_dwp.distributions import Reshaped
from pyro_dwp.errors import ConfigError
from pyro_dwp.infer import AuxiliaryELBO
from pyro_dwp.infer.estimators import Estimator, Flipout, LocalReparametrisation, SharedSample
from pyro_dwp.likelihoods import Categorical
from pyro_dwp.nn import UNet
from pyro_dwp.priors import Gaussian
from pyro_dwp.sites import WeightSite
from pyro_dwp.train.optim import JointAdam

_spec = importlib.util.spec_from_file_location("layer_programs", Path(__file__).with_name("layer_programs.py"))
oracle = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(oracle)
LAYERS, layer_and_input, programs, output = oracle.LAYERS, oracle.layer_and_input, oracle.programs, oracle.output

ESTIMATORS = [SharedSample, Flipout, LocalReparametrisation]
PER_EXAMPLE = [Flipout, LocalReparametrisation]


@pytest.fixture(autouse=True)
def _double() -> None:
    torch.set_default_dtype(torch.float64)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_without_noise_every_estimator_gives_the_plain_layer(estimator: type[Estimator], kind: str) -> None:
    network, x = layer_and_input(kind)
    model, guide = programs(nn.Sequential(network), 1e-30)
    torch.testing.assert_close(output(estimator()(model, guide), guide, x)[0], network(x), rtol=1e-12, atol=1e-12)


def spread(estimator: Estimator, layer: nn.Module, x: Tensor, examples: int) -> tuple[Tensor, MeanField]:
    """Return a layer's outputs (examples, P), all for the same input x (1, ...), each with noise of its own."""
    model, guide = programs(nn.Sequential(layer))
    with torch.no_grad():
        return output(estimator(model, guide), guide, x.expand(examples, *x.shape[1:]))[0].flatten(1), guide


@pytest.mark.parametrize("kind", LAYERS)
def test_local_reparametrisation_has_the_exact_mean_and_variance_of_every_output(kind: str) -> None:
    """4,000 examples; means within 4.5 standard errors √(v/4000), variances within 4.5 of v √(2/4000) (2.2 %)."""
    layer, x = layer_and_input(kind, 1)
    found, guide = spread(LocalReparametrisation(), layer, x, 4_000)
    mean, covariance = oracle.exact_moments(layer, guide, x)
    variance = covariance.diagonal()
    assert ((found.mean(0) - mean).abs() / (variance / 4_000).sqrt()).max() < 4.5
    assert ((found.var(0) / variance - 1).abs() / (2 / 4_000) ** 0.5).max() < 4.5


def test_local_reparametrisation_misses_the_covariance_of_voxels_and_so_biases_a_loss_that_flipout_does_not() -> None:
    """20,000 examples. Loss (Σ_p a_p)²: its mean is (Σ m_p)² + the sum of all covariances, of which it keeps the diagonal."""
    layer, x = nn.Conv2d(2, 1, 3, padding=1, bias=False), 1 + torch.rand(1, 2, 4, 4)
    found, guide = spread(LocalReparametrisation(), layer, x, 20_000)
    mean, covariance = oracle.exact_moments(layer, guide, x)
    scale = covariance.diagonal().sqrt()
    neighbours = ((found[:, 5] - mean[5]) * (found[:, 6] - mean[6])).mean() / scale[5] / scale[6]
    assert neighbours.abs() < 4 / 20_000**0.5  # standard error 0.007
    assert (covariance[5, 6] / scale[5] / scale[6]).abs() > 0.2
    model, _ = programs(nn.Sequential(layer))
    program = Flipout()(model, guide)
    with torch.no_grad(), pyro.validation_enabled(False):
        flipped = torch.cat([output(program, guide, x)[0].flatten(1) for _ in range(1_500)])
    true = mean.sum() ** 2 + covariance.sum()
    without = mean.sum() ** 2 + covariance.diagonal().sum()
    for outputs, expected in ((found, without), (flipped, true)):
        losses = outputs.sum(1).square()
        error = losses.std() / len(losses) ** 0.5
        assert (losses.mean() - expected).abs() < 4 * error
        assert error < 0.15 * (true - without).abs()


@pytest.mark.parametrize("kind", ["linear", "covering kernel", "transposed, one voxel in, one out"])
def test_where_no_outputs_share_weights_local_reparametrisation_is_exact(kind: str) -> None:
    """The true covariance of all outputs is diagonal, and that of 10,000 examples is within 4.5 standard errors of it."""
    layer, x = {
        "linear": (nn.Linear(4, 3), torch.randn(1, 4)),
        "covering kernel": (nn.Conv2d(2, 3, 3), torch.randn(1, 2, 3, 3)),
        "transposed, one voxel in, one out": (nn.ConvTranspose2d(2, 3, 1), torch.randn(1, 2, 1, 1)),
    }[kind]
    found, guide = spread(LocalReparametrisation(), layer, x, 10_000)
    mean, covariance = oracle.exact_moments(layer, guide, x)
    assert torch.equal(covariance, covariance.diagonal().diag())
    standardised = (found - mean) / covariance.diagonal().sqrt()
    error = ((1 + torch.eye(len(mean))) / 10_000).sqrt()
    assert ((standardised.T @ standardised / 10_000 - torch.eye(len(mean))) / error).abs().max() < 4.5


def test_for_linear_layers_all_three_gradients_agree() -> None:
    """200 draws of each: every mean within 4.5 standard errors of the shared sample's, and 0.26 and 0.16 of its variance."""
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    x = 1 + torch.randn(16, 3)
    y = torch.randn(16, 2)
    model, guide = programs(network, 0.5)
    shared, *others = (oracle.gradients(e(), model, guide, (x, y), 200) for e in ESTIMATORS)
    for found in others:
        error = ((shared.var(0) + found.var(0)) / 200).sqrt()
        assert ((shared.mean(0) - found.mean(0)).abs() / error).max() < 4.5
        assert found.var(0).sum() < 0.7 * shared.var(0).sum()


def test_local_reparametrisations_gradient_is_finite_where_the_input_is_zero() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False))
    model, guide = programs(network)
    x = torch.zeros(2, 1, 6, 6)
    x[0, 0, 0, 0] = 1.0
    found = oracle.gradients(LocalReparametrisation(), model, guide, (x, torch.zeros(2, 32)), 1)
    assert found.isfinite().all()
    assert found.any()


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_three_steps_of_svi_move_every_parameter_and_the_kl_is_the_shared_samples(
    estimator: type[Estimator], ndim: int
) -> None:
    model = SegmentationModel(UNet(channels=(2, 4), ndim=ndim).double(), Gaussian().double(), Categorical())
    guide = MeanField(model.sites, {name: torch.randn(site.shape) for name, site in model.sites.items()})
    image = torch.randn(2, 1, *[8] * ndim)
    label = (image[:, 0] > 0).long()
    plain, elbo = AuxiliaryELBO(), AuxiliaryELBO()
    program = estimator()(model, guide)
    for loss, run in ((plain, model), (elbo, program)):
        pyro.set_rng_seed(1)
        loss.loss(run, guide, image, label)
    assert elbo.parts["kl"] == plain.parts["kl"]
    assert (elbo.parts["data"] == plain.parts["data"]) == (estimator is SharedSample)
    svi = SVI(program, guide, JointAdam({"theta": [guide, model.network]}, 1e-3), elbo)
    parameters = [*guide.parameters(), *model.network.parameters()]
    before = [parameter.detach().clone() for parameter in parameters]
    for _ in range(3):
        svi.step(image, label)
        assert all(parameter.isfinite().all() for parameter in parameters)
    assert not any(torch.equal(old, new) for old, new in zip(before, parameters, strict=True))
    found = torch.autograd.grad(elbo.differentiable_loss(program, guide, image, label), parameters)
    assert all(gradient.isfinite().all() for gradient in found)


def test_the_model_itself_and_prediction_are_untouched() -> None:
    network, x = nn.Sequential(nn.Linear(3, 2)), torch.randn(4, 3)
    model, guide = programs(network)
    Flipout()(model, guide)
    drawn = Predictive(model, guide=guide, num_samples=1, return_sites=(*model.sites, "_RETURN"))(x)
    weights = {name: drawn[name].reshape(site.shape) for name, site in model.sites.items()}
    torch.testing.assert_close(drawn["_RETURN"][0], F.linear(x, weights["0.weight"], weights["0.bias"]))


class Families(Guide):
    """A guide of any distribution."""

    def __init__(self, sites: dict[str, WeightSite], family: object) -> None:
        super().__init__(sites, {name: torch.ones(site.shape) for name, site in sites.items()})
        self.family = family

    def distribution(self, name: str) -> dist.TorchDistribution:
        return self.family(self.sites[name].shape)


def per_kernel(shape: torch.Size) -> dist.TorchDistribution:
    size = shape[2:].numel()
    kernels = dist.MultivariateNormal(torch.full((*shape[:2], size), 0.5), torch.eye(size) + 0.5)
    return Reshaped(kernels, shape[2:]).to_event(2)


def per_layer(shape: torch.Size) -> dist.TorchDistribution:
    return Reshaped(dist.MultivariateNormal(torch.zeros(shape.numel()), torch.eye(shape.numel())), shape)


def test_flipout_takes_a_gaussian_with_full_covariance_within_each_kernel() -> None:
    """The mean output of 500 draws is the mean kernel's, within 4.5 standard errors."""
    model = oracle.Program(nn.Sequential(nn.Conv2d(2, 2, 3, bias=False)))
    guide, x = Families(model.sites, per_kernel), torch.randn(2, 2, 3, 3)
    drawn = torch.stack([output(Flipout()(model, guide), guide, x)[0] for _ in range(500)])
    expected = F.conv2d(x, torch.full((2, 2, 3, 3), 0.5))
    assert ((drawn.mean(0) - expected).abs() / (drawn.var(0) / 500).sqrt()).max() < 4.5


@pytest.mark.parametrize(
    ("estimator", "family", "found"),
    [
        (Flipout, lambda shape: dist.Delta(torch.ones(shape), event_dim=4), "Delta"),
        (Flipout, per_layer, "Reshaped"),
        (Flipout, lambda shape: dist.LogNormal(0.0, 1.0).expand(shape).to_event(), "LogNormal"),
        (Flipout, lambda shape: dist.Normal(torch.ones(shape), 1.0).to_event(3), "Normal"),
        (LocalReparametrisation, per_kernel, "Reshaped"),
        (LocalReparametrisation, lambda shape: dist.Laplace(torch.ones(shape), 1.0).to_event(), "Laplace"),
    ],
    ids=["a point", "one Gaussian a layer", "skewed", "batch", "kernel covariance", "Laplace"],
)
def test_a_family_that_an_estimator_is_wrong_for_is_refused_with_the_cure(
    estimator: type[Estimator], family: object, found: str
) -> None:
    model = oracle.Program(nn.Sequential(nn.Conv2d(2, 2, 3, bias=False)))
    with pytest.raises(ConfigError, match=f"{estimator.__name__} needs.*{found}.*site '0.weight'.*mean_field"):
        estimator()(model, Families(model.sites, family))


def test_guides_that_cannot_say_their_distribution_are_refused_with_the_cure() -> None:
    model = oracle.Program(nn.Sequential(nn.Linear(2, 2)))
    for estimator in PER_EXAMPLE:
        with pytest.raises(ConfigError, match=r"AutoNormal.*shared sample"):
            estimator()(model, AutoNormal(model))
    assert SharedSample()(model, AutoNormal(model)) is model
    with pytest.raises(ConfigError, match="Point"):
        Flipout()(model, Point(model.sites, {name: torch.ones(site.shape) for name, site in model.sites.items()}))


class Standardised(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight / self.weight.std(), self.bias)


class Merged(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (lambda: Standardised(2, 3), (4, 2), "reached none as the tensor that was sampled.*shared sample"),
        (lambda: Merged(2, 3), (4, 5, 2), r"4 examples.*site '0.weight' has shape \(20, 2\).*shared sample"),
        (lambda: nn.Conv2d(4, 3, 1), (4, 5, 5), "4 examples"),
    ],
    ids=["changed weight", "merged axes", "no batch"],
)
def test_networks_that_hide_weights_or_examples_are_refused_with_the_cure(
    layer: Callable[[], nn.Module], shape: tuple[int, ...], message: str
) -> None:
    model, guide = programs(nn.Sequential(layer()))
    with pytest.raises(ConfigError, match=message):
        output(Flipout()(model, guide), guide, torch.randn(shape))


def test_a_program_without_images_is_refused() -> None:
    model, guide = programs(nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(ConfigError, match="minibatch"):
        Flipout()(model, guide)()
