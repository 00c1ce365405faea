"""Flipout: each example has weights of its own, the same at every use, from the guide's distribution; and what is refused."""

from collections.abc import Callable

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal
from torch import Tensor, nn
from torch.nn import functional as F

from guides import Guide, MeanField, Point
from models.segmentation import SegmentationModel
from pyro_dwp.distributions import Reshaped
from pyro_dwp.errors import ConfigError
from pyro_dwp.infer import AuxiliaryELBO
from pyro_dwp.infer.estimators import Estimator, Flipout, SharedSample
from pyro_dwp.likelihoods import Categorical
from pyro_dwp.nn import UNet
from pyro_dwp.priors import Gaussian
from tests.helpers.guides import started
from tests.helpers.layer_programs import LAYERS, Program, exact_moments, gradients, layer_and_input, output, programs
from tests.helpers.monte_carlo import assert_mean
from tests.helpers.refusal import refuses

ESTIMATORS = [SharedSample, Flipout]


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_without_noise_every_estimator_gives_the_plain_layer(estimator: type[Estimator], kind: str) -> None:
    network, x = layer_and_input(kind)
    model, guide = programs(nn.Sequential(network), 1e-30)
    torch.testing.assert_close(output(estimator()(model, guide), guide, x)[0], network(x), rtol=1e-12, atol=1e-12)


def test_flipout_has_the_exact_mean_and_covariance_of_all_outputs_and_no_correlation_between_examples() -> None:
    """1,500 draws of two examples; every entry within 4.5 standard errors."""
    layer, x = nn.Conv2d(2, 2, 2, padding=1), torch.randn(1, 2, 2, 2)
    model, guide = programs(nn.Sequential(layer))
    program = Flipout()(model, guide)
    with torch.no_grad(), pyro.validation_enabled(False):
        drawn = [output(program, guide, x.expand(2, -1, -1, -1))[0].flatten(1) for _ in range(1_500)]
    pairs = torch.stack(drawn)
    mean, covariance = exact_moments(layer, guide, x)
    scale = covariance.diagonal().sqrt()
    correlation = covariance / scale / scale[:, None]
    one, other = ((pairs[:, n] - mean) / scale for n in (0, 1))
    assert (correlation - torch.eye(len(mean))).abs().max() > 0.4
    assert_mean(one, 0.0, within=0.03, errors=4.5)
    for second, expected in ((one, correlation), (other, 0.0)):
        assert_mean(one[:, :, None] * second[:, None], expected, within=0.06, errors=4.5)


class Tied(nn.Module):
    """A convolution, then a transposed one of the same weight, and of the same bias where that fits: quadratic in both."""

    def __init__(self, inputs: int, outputs: int, groups: int = 1, back: int = 1) -> None:
        super().__init__()
        self.layer, self.back = nn.Conv2d(inputs, outputs, 2, groups=groups), back

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.layer.weight, self.layer.bias
        fits = len(bias) == weight.shape[1] * self.back
        return F.conv_transpose2d(self.layer(x), weight, bias if fits else None, groups=self.back)


TIED = {  # network and channels of its input
    "I = O": (lambda: Tied(3, 3), 3),
    "I < O": (lambda: Tied(2, 4), 2),
    "I > O": (lambda: Tied(3, 1), 3),
    "groups in both uses": (lambda: Tied(4, 6, 2, 2), 4),
    "groups in the convolution": (lambda: Tied(4, 4, 2, 1), 4),
    "groups in the transposed convolution": (lambda: Tied(2, 4, 1, 2), 2),
    "depthwise": (lambda: Tied(3, 3, 3, 3), 3),
    "layer used twice": (lambda: nn.Sequential(*[nn.Conv2d(2, 2, 3, padding=1), nn.Tanh()] * 2), 2),
}


@pytest.mark.parametrize("kind", [*LAYERS, *TIED])
def test_flipout_gives_each_example_the_weights_that_its_signs_say_at_every_use(kind: str, monkeypatch) -> None:
    """The signs, (examples, channels), lie along the axes of weight and bias."""
    signs_drawn, draw = [], torch.randint

    def draw_and_keep(*arguments: object, **settings: object) -> Tensor:
        bits = draw(*arguments, **settings)
        signs_drawn.append(2.0 * bits - 1.0)
        return bits

    if kind in TIED:
        build, channels = TIED[kind]
        network, x = build(), torch.randn(3, channels, 4, 4)
    else:
        layer, x = layer_and_input(kind)
        network = nn.Sequential(layer)
    model, guide = programs(network)
    monkeypatch.setattr(torch, "randint", draw_and_keep)
    found, drawn = output(Flipout()(model, guide), guide, x)
    into, out, *bias = signs_drawn
    first, second = (into, out) if kind.startswith("transposed") else (out, into)
    assert (found[0] != found[1]).any()
    for n, expected in enumerate(found):
        weights = {}
        for name, w in drawn.items():
            mean = guide.parameter("mean", name)
            signs = first[n][:, None] * second[n] if w.dim() > 1 else bias[0][n]
            weights[name] = mean + (w - mean) * signs[(..., *[None] * (w.dim() - signs.dim()))]
        plain = torch.func.functional_call(network, weights, (x[n : n + 1],))[0]
        torch.testing.assert_close(plain, expected)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("kind", ["I = O", "I < O", "groups in both uses"])
def test_flipout_is_unbiased_as_the_shared_sample_is_where_two_layers_share_a_weight(kind, estimator):
    """400 draws: every mean output within 4.5 standard errors, of which the weights' variances make 9 to 20.

    A step of one standard deviation from the mean m, either way, gives the second derivative's part exactly:
    E f = f(m) + Σ_j ( [f(m + σ_j e_j) + f(m − σ_j e_j)] / 2 − f(m) ) for f quadratic in its independent weights.
    """
    build, channels = TIED[kind]
    network, x = build(), torch.ones(1, channels, 3, 3)
    model, guide = programs(network, 0.5)
    program, means = estimator()(model, guide), {name: guide.parameter("mean", name) for name in guide.sites}
    with torch.no_grad(), pyro.validation_enabled(False):
        drawn = torch.stack([output(program, guide, x.expand(4, -1, -1, -1))[0].mean(0) for _ in range(400)])
        at_mean = torch.func.functional_call(network, means, (x,))[0]
        extra = torch.zeros_like(at_mean)
        for name, mean in means.items():
            for step in torch.diag(guide.parameter("log_scale", name).exp().flatten()).reshape(-1, *mean.shape):
                for moved in (mean + step, mean - step):
                    extra += 0.5 * (torch.func.functional_call(network, {**means, name: moved}, (x,))[0] - at_mean)
    assert_mean(drawn, at_mean + extra, within=torch.inf, errors=4.5)
    assert (extra.abs() / drawn.std(0)).max() * 400**0.5 > 8


GRADIENTS = {  # network, edges of its input, and what is left of the variances' sum
    "linear": (lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), (3,), 0.7),
    "2-D": (lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 2), nn.Flatten()), (1, 5, 5), 0.6),
    "3-D": (lambda: nn.Sequential(nn.Conv3d(1, 3, 3), nn.ReLU(), nn.Conv3d(3, 2, 2), nn.Flatten()), (1, 5, 5, 5), 0.6),
}


@pytest.mark.parametrize("kind", GRADIENTS)
def test_flipouts_gradient_agrees_with_the_shared_samples_and_is_less_noisy(kind: str) -> None:
    """A minibatch of 16, 200 draws: every mean within 4.5 standard errors; the variances' sum falls to 0.26 (3-D: 0.35) of it."""
    build, shape, share = GRADIENTS[kind]
    network, x = build(), 1 + torch.randn(16, *shape)  # examples have much in common, as scans have
    y = torch.randn(network(x).shape)
    model, guide = programs(network, 0.5)
    shared, flipped = (gradients(e(), model, guide, (x, y), 200) for e in ESTIMATORS)
    assert_mean(shared - flipped, 0.0, within=torch.inf, errors=4.5)
    assert flipped.var(0).sum() < share * shared.var(0).sum()


def test_what_is_no_layers_weight_keeps_the_shared_sample() -> None:
    network = nn.Sequential(nn.Conv2d(2, 3, 1, bias=False), nn.InstanceNorm2d(3, affine=True))
    with torch.no_grad():
        network[1].bias.fill_(1.0)
    x = torch.randn(2, 2, 4, 4)
    model, guide = programs(network)
    found, drawn = output(Flipout()(model, guide), guide, x)
    torch.testing.assert_close(found.mean((2, 3)), drawn["1.bias"].expand(2, 3))


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_kl_is_the_shared_samples_and_every_gradient_finite(estimator: type[Estimator], ndim: int) -> None:
    model = SegmentationModel(UNet(channels=(2, 4), ndim=ndim).double(), Gaussian().double(), Categorical())
    guide = started(MeanField(model.sites), {name: torch.randn(site.shape) for name, site in model.sites.items()})
    image = torch.randn(2, 1, *[8] * ndim)
    parts, parameters = [], [*guide.parameters(), *model.network.parameters()]
    for program in (model, estimator()(model, guide)):
        elbo = AuxiliaryELBO()
        pyro.set_rng_seed(1)
        loss = elbo.differentiable_loss(program, guide, image, (image[:, 0] > 0).long(), 5)
        assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(loss, parameters))
        parts.append(elbo.parts)
    assert parts[0]["kl"] == parts[1]["kl"]
    assert (parts[0]["data"] == parts[1]["data"]) == (estimator is SharedSample)


class Families(Guide):
    """A guide of any distribution over the kernels of one convolution."""

    def __init__(self, family: Callable[[torch.Size], dist.TorchDistribution]) -> None:
        model = Program(nn.Sequential(nn.Conv2d(2, 2, 3, bias=False)))
        super().__init__(model.sites)
        self.model, self.family = model, family

    def distribution(self, name: str) -> dist.TorchDistribution:
        return self.family(self.sites[name].shape)


def test_flipout_takes_a_gaussian_with_full_covariance_within_each_kernel() -> None:
    """The mean output of 500 draws is the mean kernel's, within 4.5 standard errors."""
    kernels = dist.MultivariateNormal(torch.full((2, 2, 9), 0.5), torch.eye(9) + 0.5)
    guide, x = Families(lambda shape: Reshaped(kernels, shape[2:]).to_event(2)), torch.randn(2, 2, 3, 3)
    drawn = torch.stack([output(Flipout()(guide.model, guide), guide, x)[0].detach() for _ in range(500)])
    assert_mean(drawn, F.conv2d(x, torch.full((2, 2, 3, 3), 0.5)), within=0.5, errors=4.5)


REFUSED = {
    "Delta": lambda shape: dist.Delta(torch.ones(shape), event_dim=4),
    "Reshaped": lambda shape: Reshaped(dist.MultivariateNormal(torch.zeros(36), torch.eye(36)), shape),
    "LogNormal": lambda shape: dist.LogNormal(0.0, 1.0).expand(shape).to_event(),
    "Normal": lambda shape: dist.Normal(torch.ones(shape), 1.0).to_event(3),
}


@pytest.mark.parametrize("found", REFUSED)
def test_a_family_that_flipout_is_wrong_for_is_refused_with_the_cure(found: str) -> None:
    guide = Families(REFUSED[found])
    with refuses(found, "site '0.weight'", "shared_sample", "mean_field", error=ConfigError):
        Flipout()(guide.model, guide)


def test_guides_that_do_not_know_their_distribution_are_refused_with_the_cure() -> None:
    model = Program(nn.Sequential(nn.Linear(2, 2)))
    assert SharedSample()(model, AutoNormal(model)) is model
    for guide in (AutoNormal(model), Point(model.sites)):
        with refuses(type(guide).__name__, "shared_sample", error=ConfigError):
            Flipout()(model, guide)


class Standardised(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight / self.weight.std(), self.bias)


class Merged(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])


HIDDEN = {  # layer, shape of its input, tokens
    "changed weight": (lambda: Standardised(2, 3), (4, 2), ["site '0.weight' reached none", "shared_sample"]),
    "merged axes": (lambda: Merged(2, 3), (4, 5, 2), ["4 examples", "site '0.weight'", "(20, 2)", "shared_sample"]),
    "no batch": (lambda: nn.Conv2d(4, 3, 1), (4, 5, 5), ["4 examples"]),
    "no image": (lambda: nn.Linear(2, 2), None, ["minibatch"]),
}


@pytest.mark.parametrize("kind", HIDDEN)
def test_networks_that_hide_weights_or_examples_are_refused_with_the_cure(kind: str) -> None:
    layer, shape, tokens = HIDDEN[kind]
    model, guide = programs(nn.Sequential(layer()))
    with refuses(*tokens, error=ConfigError):
        Flipout()(model, guide)(*[torch.randn(shape)] if shape else [])
