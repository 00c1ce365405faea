"""Half precision: close to float32, float32 outside the network, and nothing at all where it is off."""

import pytest
import torch

from pyro_dwp.nn import UNet, run_in


def test_bfloat16_rounds_activations_and_leaves_weights_output_and_gradients_in_float32():
    network, image = UNet(channels=(4, 8)), torch.randn(2, 1, 16, 16, 16)
    full, half = run_in("float32", network, image), run_in("bfloat16", network, image)
    assert torch.equal(full, network(image))
    assert half.dtype == torch.float32
    error = (half - full).square().mean().sqrt() / full.square().mean().sqrt()
    assert 0 < error < 0.05  # bfloat16 keeps 8 bits
    half.square().mean().backward()
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in network.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_float32_keeps_the_networks_own_dtype(dtype):
    network = UNet(channels=(2, 4), ndim=2).to(dtype)
    assert run_in("float32", network, torch.randn(1, 1, 8, 8, dtype=dtype)).dtype == dtype


def test_without_a_choice_the_device_decides():
    network, image = UNet(channels=(2, 4)), torch.randn(1, 1, 8, 8, 8)
    assert torch.equal(run_in(None, network, image), run_in("float32", network, image))
