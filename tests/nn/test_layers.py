"""Each fast path against the plain one, in value and gradient."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pyro_dwp.nn import Computing, Precision, UNet, layers, unet

MODES = {2: "bilinear", 3: "trilinear"}
GRIDS = [(4, 6, 5), (1, 3, 2), (5, 4), (7, 1)]


def plain_activate(x: Tensor) -> Tensor:
    return F.relu(F.instance_norm(x))


def plain_double_grid(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode=MODES[x.ndim - 2], align_corners=True)


def with_gradient(function: Callable[[Tensor], Tensor], x: Tensor, seed: int = 1) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    y = function(x)
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed)).to(y)
    return y.detach(), torch.autograd.grad((y * weight).sum(), x)[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_the_doubled_grid_is_torchs_linear_interpolation(grid: tuple, dtype: torch.dtype, device: torch.device) -> None:
    x = torch.randn(2, 3, *grid, dtype=dtype, device=device)
    torch.testing.assert_close(with_gradient(layers.double_grid, x), with_gradient(plain_double_grid, x))


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_normalisation_and_relu_are_those_of_instance_normalisation(grid: tuple, device: torch.device) -> None:
    x = 3 * torch.randn(2, 3, *grid, dtype=torch.float64, device=device) + 1
    torch.testing.assert_close(with_gradient(layers.activate, x), with_gradient(plain_activate, x))


@pytest.mark.parametrize("layer", [layers.activate, layers.double_grid], ids=lambda layer: layer.__name__)
def test_first_and_second_derivatives_are_those_of_finite_differences(layer: Callable) -> None:
    x = torch.randn(1, 2, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, x)
    assert torch.autograd.gradgradcheck(layer, x)


def test_in_bfloat16_normalisation_is_closer_to_the_truth_than_torchs_instance_normalisation() -> None:
    x = (2 * torch.randn(2, 4, 12, 12, 12) + 10).bfloat16()
    truth = with_gradient(plain_activate, x.double())
    found, plain = (with_gradient(layer, x) for layer in (layers.activate, plain_activate))
    for exact, ours, torchs in zip(truth, found, plain, strict=True):
        assert (ours.double() - exact).norm() < 0.5 * (torchs.double() - exact).norm()


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("grid", [(4, 5, 3), (6, 5)], ids=str)
def test_mixed_channels_are_a_convolution_with_1_voxel_kernels(grid: tuple, stride: int, device: torch.device) -> None:
    mix = unet.convolution(len(grid), 3, 5, size=1, stride=stride).double().to(device)
    convolve = {2: F.conv2d, 3: F.conv3d}[len(grid)]
    x = torch.randn(2, 3, *grid, dtype=torch.float64, device=device)
    torch.testing.assert_close(
        with_gradient(mix, x), with_gradient(lambda x: convolve(x, mix.weight, stride=stride), x)
    )
    biased = type(mix)(3, 5, 1, stride=stride, dtype=torch.float64, device=device)
    torch.testing.assert_close(biased(x), convolve(x, biased.weight, biased.bias, stride=stride))


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_network_and_its_gradients_are_those_of_plain_layers(ndim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    network, image = network_and_image(ndim)
    found = logits_and_gradients(network, image)
    plain_layers(monkeypatch)
    torch.testing.assert_close(found, logits_and_gradients(network, image))


@pytest.mark.parametrize("ndim", [2, 3])
def test_in_bfloat16_the_network_is_no_further_from_the_truth_than_plain_layers(
    ndim: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, image = network_and_image(ndim)
    truth = logits_and_gradients(network, image)
    network, image = network.float(), image.float()
    errors = []
    for _ in range(2):
        found = logits_and_gradients(network, image, "bfloat16")
        errors.append(sum((half - exact).norm() / exact.norm() for half, exact in zip(found, truth, strict=True)))
        plain_layers(monkeypatch)
    assert errors[0] < 1.1 * errors[1]


def network_and_image(ndim: int) -> tuple[UNet, Tensor]:
    return UNet(channels=(4, 8, 8), ndim=ndim).double(), torch.randn(2, 1, *[12] * ndim, dtype=torch.float64)


def plain_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unet, "activate", plain_activate)
    monkeypatch.setattr(layers, "double_grid", plain_double_grid)
    for kind, base in ((layers.Mix2d, torch.nn.Conv2d), (layers.Mix3d, torch.nn.Conv3d)):
        monkeypatch.setattr(kind, "forward", base.forward)


def logits_and_gradients(network: UNet, image: Tensor, precision: Precision = "float32") -> list[Tensor]:
    logits = Computing(precision).run(network, image)
    loss = (logits * torch.linspace(-1, 1, logits.numel()).reshape(logits.shape)).sum()
    return [logits.detach().double(), *(g.double() for g in torch.autograd.grad(loss, list(network.parameters())))]
