"""Activation checkpointing: the same numbers, from less memory."""

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F
from torch.overrides import wrap_torch_function
from torch.utils.flop_counter import FlopCounterMode

from guides import MeanField
from models.segmentation import SegmentationModel
from pyro_dwp.infer.estimators import Flipout
from pyro_dwp.likelihoods import Categorical
from pyro_dwp.nn import Computing, Precision, UNet
from pyro_dwp.nn.layers import activate
from pyro_dwp.nn.recompute import Kept, Recomputing, address
from pyro_dwp.priors import Gaussian
from pyro_dwp.sites import FunctionalNetwork, weight_sites


def pair(ndim: int) -> tuple[UNet, UNet]:
    plain, frugal = (UNet(channels=(4, 8, 8), ndim=ndim, recompute=recompute) for recompute in (False, True))
    frugal.load_state_dict(plain.state_dict())
    return plain, frugal


def gradients(network: UNet, precision: Precision, image: Tensor) -> list[Tensor]:
    """Return logits and gradients from weights that differ from the network's own."""
    torch.manual_seed(1)
    functional = FunctionalNetwork(network, weight_sites(network), Computing(precision))
    weights = {name: torch.randn(site.shape).requires_grad_() for name, site in functional.sites.items()}
    logits = functional(weights, image)
    return [logits, *torch.autograd.grad(logits.square().mean(), [*weights.values(), *functional.parameters()])]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("ndim", [2, 3])
def test_logits_and_gradients_are_exactly_those_without_it(ndim: int, precision: Precision, device) -> None:
    image = torch.randn(2, 1, *[12] * ndim)
    plain, frugal = (gradients(network, precision, image) for network in pair(ndim))
    assert all(torch.equal(a, b) for a, b in zip(plain, frugal, strict=True))


def test_gradients_of_flipout_are_exactly_those_without_it() -> None:
    found, image = [], torch.randn(2, 1, 12, 12)
    for network in pair(2):
        model = SegmentationModel(network, Gaussian(), Categorical())
        guide = MeanField(model.sites)
        torch.manual_seed(0)
        guide.start(
            lambda model=model: {name: torch.randn(site.shape) for name, site in model.sites.items()}, model.prior
        )
        logits = Flipout()(model, guide)(image)
        found.append(
            [logits, *torch.autograd.grad(logits.square().mean(), list(network.parameters()), allow_unused=True)]
        )
    assert all(a is b is None or torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_no_convolution_runs_twice() -> None:
    counts = []
    for network in pair(3):
        with FlopCounterMode(display=False) as counted:
            network(torch.randn(1, 1, 16, 16, 16)).sum().backward()
        flops = counted.get_flop_counts()["Global"]
        counts.append({str(function): number for function, number in flops.items() if "convolution" in str(function)})
    assert counts[0] == counts[1]
    assert len(counts[0]) == 2  # forwards and backwards


def test_the_graph_keeps_little_more_than_half_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    pack, packed = Recomputing.pack, []
    monkeypatch.setattr(Recomputing, "pack", lambda mode, x: packed.append(kept := pack(mode, x)) or kept)
    sizes = []
    for network in pair(3):
        packed.clear()
        with saved_tensors_hooks(lambda x: packed.append(kept := Kept(x, ())) or kept, Kept.tensor):
            network(torch.randn(1, 1, 32, 32, 32))
        memory = {
            address(kept.source): kept.source.untyped_storage() for kept in packed if isinstance(kept.source, Tensor)
        }
        sizes.append(sum(storage.nbytes() for storage in memory.values()))
    assert sizes[1] < 0.6 * sizes[0]


def test_the_output_is_computed_once_more_however_many_need_it_in_each_backward_pass() -> None:
    calls = []

    @wrap_torch_function(lambda x: (x,))
    def function(x: Tensor) -> Tensor:
        calls.append(x)
        return F.relu(x.sin())

    x, weight = torch.randn(2, 3, 5, requires_grad=True), torch.randn(4, 3, 1, requires_grad=True)
    with Recomputing(function):
        y = function(x)
        loss = (F.conv1d(y, weight) + F.conv1d(y, 2 * weight)).square().sum()
    plain = F.relu(x.sin())
    exact = torch.autograd.grad((F.conv1d(plain, weight) + F.conv1d(plain, 2 * weight)).square().sum(), [x, weight])
    for computed in (2, 3):
        found = torch.autograd.grad(loss, [x, weight], retain_graph=True)
        assert len(calls) == computed
        assert all(torch.equal(a, b) for a, b in zip(found, exact, strict=True))


def test_first_and_second_derivatives_are_those_of_finite_differences() -> None:
    def function(x: Tensor, weight: Tensor) -> Tensor:
        with Recomputing(activate):
            return F.conv1d(activate(x), weight)

    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((1, 2, 5), (3, 2, 1))]
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)
