"""The auxiliary bound of many kernels: in chunks it is that of all at once, and no step waits for a GPU."""

import pyro
import pytest
import torch
from torch import Tensor
from torch.profiler import profile

from guides import Latent, MeanField
from models.segmentation import SegmentationModel
from pyro_dwp.infer import AuxiliaryELBO, auxiliary
from pyro_dwp.infer.auxiliary import ImplicitKernels
from pyro_dwp.infer.bounds import cross_entropy_bound
from pyro_dwp.likelihoods import Categorical
from pyro_dwp.nn import UNet
from pyro_dwp.priors import DeepWeight, DeepWeightDensity, Gaussian, Mixture
from pyro_dwp.transfer import start_function

WAITS = {"aten::_local_scalar_dense", "aten::item", "aten::nonzero", "aten::is_nonzero"}


@pytest.mark.parametrize("named", [True, False], ids=["gradients at once", "gradients later"])
@pytest.mark.parametrize("draws", [1, 3])
def test_the_bound_in_chunks_and_its_gradients_are_those_of_all_kernels_at_once(
    draws: int, named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)  # the same latents in any chunks
    monkeypatch.setattr(torch, "randn", lambda *shape, **kind: torch.zeros(*shape, **kind))
    torch.random.manual_seed(0)
    density = DeepWeightDensity((3, 3), latent=2, hidden=8).double()
    kernels = torch.empty(10, 5, 3, 3).uniform_(-1, 1).requires_grad_()
    scales = torch.ones(50)
    scales[:20] = 2.0  # a site under poutine.scale
    learned = [kernels, *density.encoder.parameters(), *density.decoder.parameters()]

    def gradients(loss: Tensor) -> tuple[Tensor, ...]:
        return loss.detach(), *torch.autograd.grad(loss, learned)

    prior = density.distribution("1")
    whole = cross_entropy_bound(kernels.reshape(50, 9), density.encoder, prior.conditional_log_prob, draws)
    monkeypatch.setattr(auxiliary, "CHUNK", 7)
    prior.density = density if named else None
    together = ImplicitKernels()
    together.add(prior, kernels[:4], 2.0)
    together.add(prior, kernels[4:], 1.0)
    chunked = together.bound(density.encoder, None, draws, True)
    torch.testing.assert_close(gradients(chunked.total), gradients((scales * whole.total).sum()))
    torch.testing.assert_close(chunked.kl_latent, (scales * whole.kl_latent).sum())
    torch.testing.assert_close(chunked.kl_latent + chunked.reconstruction, chunked.total)


@pytest.mark.parametrize(
    ("prior", "guide", "settings"),
    [
        (Gaussian, MeanField, {}),
        (Mixture, MeanField, {}),
        (DeepWeight, MeanField, {"warm_up": 3}),
        (DeepWeight, MeanField, {"draws": 2, "kernels_per_group": 50, "num_particles": 2}),
        (DeepWeight, Latent, {}),
    ],
    ids=["gaussian", "mixture", "deep weight", "deep weight, particles", "latent"],
)
def test_a_loss_and_its_gradients_never_wait_for_the_device(prior: type, guide: type, settings: dict) -> None:
    torch.set_default_dtype(torch.float32)
    network = UNet(channels=(2, 4, 4, 4))
    model = SegmentationModel(network, prior(), Categorical())
    posterior = guide(model.sites)
    posterior.start(start_function("prior", model.sites, network, model.prior), model.prior)
    elbo = AuxiliaryELBO(model.prior.encoders(), **settings)
    batch = torch.randn(2, 1, 16, 16, 16), torch.zeros(2, 16, 16, 16, dtype=torch.int64), 5
    with pyro.validation_enabled(False):  # as in the scripts; it reads every value that it checks
        elbo.loss_and_grads(model, posterior, *batch)
        with profile() as trace:
            elbo.loss_and_grads(model, posterior, *batch)
    called = {event.key for event in trace.key_averages()}
    assert "aten::convolution" in called
    assert not called & WAITS
