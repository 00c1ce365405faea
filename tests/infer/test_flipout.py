"""Flipout: each example has weights of its own, the same at every use, from the guide's distribution."""

import importlib.util
from pathlib import Path

import pyro
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guides import MeanField
from pyro_dwp.infer.estimators import Estimator, Flipout, SharedSample

_spec = importlib.util.spec_from_file_location("layer_programs", Path(__file__).with_name("layer_programs.py"))
oracle = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(oracle)
LAYERS, layer_and_input, programs, output = oracle.LAYERS, oracle.layer_and_input, oracle.programs, oracle.output


@pytest.fixture(autouse=True)
def _double() -> None:
    torch.set_default_dtype(torch.float64)


@pytest.fixture
def kept_signs(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Every array of signs that is drawn, (examples, channels), in order."""
    kept, draw = [], torch.randint

    def draw_and_keep(*arguments: object, **settings: object) -> Tensor:
        bits = draw(*arguments, **settings)
        kept.append(2.0 * bits - 1.0)
        return bits

    monkeypatch.setattr(torch, "randint", draw_and_keep)
    return kept


def check_weights(network: nn.Module, x: Tensor, kept_signs: list[Tensor], transposed: bool = False) -> Tensor:
    """Check that every example's output is that of its own weights: the signs' along the axes of weight and bias."""
    model, guide = programs(network)
    found, drawn = output(Flipout()(model, guide), guide, x)
    into, out, *bias = kept_signs
    first, second = (into, out) if transposed else (out, into)
    for n, expected in enumerate(found):
        weights = {}
        for name, w in drawn.items():
            mean = guide.parameter("mean", name)
            signs = first[n][:, None] * second[n] if w.dim() > 1 else bias[0][n]
            weights[name] = mean + (w - mean) * signs[(..., *[None] * (w.dim() - signs.dim()))]
        plain = torch.func.functional_call(network, weights, (x[n : n + 1],))[0]
        torch.testing.assert_close(plain, expected)
    return found


@pytest.mark.parametrize("kind", LAYERS)
def test_flipout_gives_each_example_the_weights_that_its_signs_say(kind: str, kept_signs: list[Tensor]) -> None:
    layer, x = layer_and_input(kind)
    found = check_weights(nn.Sequential(layer), x, kept_signs, transposed="transposed" in kind)
    assert (found[0] != found[1]).any()


def test_flipout_has_the_exact_mean_and_covariance_of_all_outputs_and_no_correlation_between_examples() -> None:
    """1,500 draws of two examples; every entry within 4.5 standard errors of a Gaussian's."""
    layer, x = nn.Conv2d(2, 2, 2, padding=1), torch.randn(1, 2, 2, 2)
    model, guide = programs(nn.Sequential(layer))
    program = Flipout()(model, guide)
    with torch.no_grad(), pyro.validation_enabled(False):
        drawn = [output(program, guide, x.expand(2, -1, -1, -1))[0].flatten(1) for _ in range(1_500)]
    pairs = torch.stack(drawn)
    mean, covariance = oracle.exact_moments(layer, guide, x)
    scale = covariance.diagonal().sqrt()
    correlation = covariance / scale / scale[:, None]
    one, other = ((pairs[:, n] - mean) / scale for n in (0, 1))
    assert (one.mean(0).abs() * 1_500**0.5).max() < 4.5
    error = ((1 + correlation.square()) / 1_500).sqrt()
    assert ((one.T @ one / 1_500 - correlation) / error).abs().max() < 4.5
    assert (correlation - torch.eye(len(mean))).abs().max() > 0.4
    # Uncorrelated, but products of two examples share |Δ|: their kurtosis is up to 3.
    assert ((one.T @ other / 1_500).abs() * (1_500 / 3) ** 0.5).max() < 4.5


class Twice(nn.Module):
    """A network that uses one layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x).tanh())


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
}


@pytest.mark.parametrize("kind", ["layer used twice", *TIED])
def test_flipout_gives_an_example_the_same_weights_at_every_use(kind: str, kept_signs: list[Tensor]) -> None:
    network, channels = TIED.get(kind, (Twice, 2))
    check_weights(network(), torch.randn(3, channels, 4, 4), kept_signs)


def exact_mean(network: nn.Module, guide: MeanField, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return E f, the mean output, and what it owes to the variances, for f quadratic in its independent weights w.

    A step of one standard deviation from the mean m, either way, gives the second derivative's part exactly:
    E f = f(m) + Σ_j ( [f(m + σ_j e_j) + f(m − σ_j e_j)] / 2 − f(m) ).
    """
    means = {name: guide.parameter("mean", name).detach() for name in guide.sites}
    at_mean = torch.func.functional_call(network, means, (x,))
    extra = torch.zeros_like(at_mean)
    for name, mean in means.items():
        for step in torch.diag(guide.parameter("log_scale", name).detach().exp().flatten()):
            for sign in (1, -1):
                moved = {**means, name: mean + sign * step.reshape(mean.shape)}
                extra += 0.5 * (torch.func.functional_call(network, moved, (x,)) - at_mean)
    return at_mean + extra, extra


@pytest.mark.parametrize("estimator", [SharedSample, Flipout])
@pytest.mark.parametrize("kind", ["I = O", "I < O", "groups in both uses"])
def test_flipout_is_unbiased_as_the_shared_sample_is_where_two_layers_share_a_weight(
    kind: str, estimator: type[Estimator]
) -> None:
    """400 draws: every mean output within 4.5 standard errors, of which the weights' variances make 9 to 20."""
    build, channels = TIED[kind]
    network, x = build(), torch.ones(1, channels, 3, 3)
    model, guide = programs(network, 0.5)
    program = estimator()(model, guide)
    with torch.no_grad(), pyro.validation_enabled(False):
        drawn = torch.stack([output(program, guide, x.expand(4, -1, -1, -1))[0].mean(0) for _ in range(400)])
        mean, extra = exact_mean(network, guide, x)
    error = drawn.std(0) / 400**0.5
    assert ((drawn.mean(0) - mean[0]).abs() / error).max() < 4.5
    assert (extra[0].abs() / error).max() > 8


@pytest.mark.parametrize("ndim", [2, 3])
def test_flipouts_gradient_agrees_with_the_shared_samples_and_is_less_noisy(ndim: int) -> None:
    """A minibatch of 16, 200 draws: every mean within 4.5 standard errors; the variances' sum falls to 0.26 (3-D: 0.35) of it."""
    convolution = {2: nn.Conv2d, 3: nn.Conv3d}[ndim]
    network = nn.Sequential(convolution(1, 3, 3), nn.ReLU(), convolution(3, 2, 2), nn.Flatten())
    x = 1 + torch.randn(16, 1, *[5] * ndim)  # examples have much in common, as scans have
    y = torch.randn(network(x).shape)
    model, guide = programs(network, 0.5)
    shared, flipped = (oracle.gradients(e, model, guide, (x, y), 200) for e in (SharedSample(), Flipout()))
    error = ((shared.var(0) + flipped.var(0)) / 200).sqrt()
    assert ((shared.mean(0) - flipped.mean(0)).abs() / error).max() < 4.5
    ratio = flipped.var(0).sum() / shared.var(0).sum()
    assert ratio < 0.6


def test_what_is_no_layers_weight_keeps_the_shared_sample() -> None:
    network = nn.Sequential(nn.Conv2d(2, 3, 1, bias=False), nn.InstanceNorm2d(3, affine=True))
    with torch.no_grad():
        network[1].bias.fill_(1.0)
    x = torch.randn(2, 2, 4, 4)
    model, guide = programs(network)
    found, drawn = output(Flipout()(model, guide), guide, x)
    torch.testing.assert_close(found.mean((2, 3)), drawn["1.bias"].expand(2, 3))
