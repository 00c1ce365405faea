"""Half precision, memory format and compilation: what a network computes stays the same."""

import pytest
import torch

from pyro_dwp.errors import ConfigError
from pyro_dwp.nn import Computing, UNet, best_precision
from pyro_dwp.sites import FunctionalNetwork, weight_sites
from tests.helpers.refusal import refuses


def test_bfloat16_rounds_activations_and_leaves_weights_output_and_gradients_in_float32():
    network, image = UNet(channels=(4, 8)), torch.randn(2, 1, 16, 16, 16)
    full, half = Computing("float32").run(network, image), Computing("bfloat16").run(network, image)
    assert torch.equal(full, network(image))
    assert half.dtype == torch.float32
    error = (half - full).square().mean().sqrt() / full.square().mean().sqrt()
    assert 0 < error < 0.05  # bfloat16 keeps 8 bits
    half.square().mean().backward()
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in network.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_float32_keeps_the_networks_own_dtype(dtype):
    network = UNet(channels=(2, 4), ndim=2).to(dtype)
    assert Computing("float32").run(network, torch.randn(1, 1, 8, 8, dtype=dtype)).dtype == dtype


def test_without_a_choice_the_device_decides():
    network, image = UNet(channels=(2, 4)), torch.randn(1, 1, 8, 8, 8)
    best = Computing(best_precision(image.device))
    assert torch.equal(Computing(None).run(network, image), best.run(network, image))


@pytest.mark.parametrize(
    ("instructions", "best"),
    [
        ({"amx_bf16": True}, "bfloat16"),
        ({"avx512_bf16": True}, "bfloat16"),
        ({"avx2": True}, "float32"),
        (None, "float32"),
    ],
    ids=str,
)
def test_a_cpu_computes_in_bfloat16_where_it_multiplies_it_and_torch_says_so(instructions, best, monkeypatch):
    monkeypatch.delenv("PYRO_DWP_PRECISION")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions, raising=False)
    if instructions is None:  # an older torch
        monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert best_precision(torch.device("cpu")) == best


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_memory_format_changes_no_value_and_no_gradient(ndim):
    network, image = UNet(channels=(4, 8), ndim=ndim).double(), torch.randn(2, 1, *[12] * ndim, dtype=torch.float64)
    found = []
    for memory_format in ("contiguous", "channels_last"):
        logits = Computing("float32", memory_format).run(network, image)
        loss = (logits * torch.linspace(-1, 1, logits.numel()).reshape(logits.shape)).sum()
        found.append([logits, *torch.autograd.grad(loss, list(network.parameters()))])
    torch.testing.assert_close(*found)


def test_without_a_compiler_compilation_is_refused_with_the_cure(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with refuses("compile: true", "g++", error=ConfigError):
        FunctionalNetwork(UNet(channels=(2, 4), ndim=2), {}, Computing(compile=True))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # what it imports to compile
def test_a_compiled_network_computes_the_same_from_weights_that_are_given_in_one_graph():
    network, image = UNet(channels=(2, 4), ndim=2), torch.randn(2, 1, 8, 8)
    sites = weight_sites(network)
    plain, compiled = (FunctionalNetwork(network, sites, Computing("float32", compile=c)) for c in (False, True))
    for _ in range(2):
        weights = {name: torch.randn(site.shape, requires_grad=True) for name, site in sites.items()}
        found = []
        for functional in (plain, compiled):
            logits = functional(weights, image)
            found.append([logits, *torch.autograd.grad(logits.square().sum(), [*weights.values()])])
        torch.testing.assert_close(*found, rtol=1e-3, atol=1e-4)
