from pathlib import Path

import numpy as np
import pyro
import pytest
import torch

from guides import MeanField, Point
from models.segmentation import SegmentationModel
from pyro_dwp.data import Prepared
from pyro_dwp.errors import ConfigError
from pyro_dwp.infer import AuxiliaryELBO
from pyro_dwp.likelihoods import Categorical, DiceCrossEntropy
from pyro_dwp.nn import UNet
from pyro_dwp.priors import DeepWeight, DeepWeightDensity, Gaussian, GaussianPrior, PriorFamily
from pyro_dwp.priors.store import save_prior
from pyro_dwp.train import VariationalTask
from pyro_dwp.transfer import start_weights

CHANNELS, EDGE = (2, 4), 8


def cases(number: int, ndim: int = 3) -> list[Prepared]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(number, 1, *([EDGE] * ndim), generator=generator)
    return [
        Prepared(str(i), image, (image[0] > 0.5).long(), np.eye(4), (EDGE,) * 3, ((0, EDGE),) * 3)
        for i, image in enumerate(images)
    ]


def deep(folder: Path, ndim: int) -> DeepWeight:
    groups = sorted(set(UNet(channels=CHANNELS, ndim=ndim).kernel_groups().values()))
    path = folder / "prior.safetensors"
    densities = {group: DeepWeightDensity((3,) * ndim, latent=2, hidden=8, kernel_scale=0.2) for group in groups}
    save_prior(path, densities, {})
    return DeepWeight(str(path))


def task(
    prior: PriorFamily, guide_class: type, ndim: int = 3, device: object = "cpu", **settings: object
) -> VariationalTask:
    network = UNet(channels=CHANNELS, ndim=ndim)
    likelihood = settings.pop("likelihood", DiceCrossEntropy())
    elbo_settings = {key: settings.pop(key) for key in ("kl_weight", "draws", "kernels_per_group") if key in settings}
    model = SegmentationModel(network, prior, likelihood)
    guide = guide_class(model.sites, start_weights("random", model.sites, network, prior))
    scans = cases(5, ndim)
    elbo = AuxiliaryELBO(prior.encoders(), **elbo_settings)
    return VariationalTask(
        model, guide, elbo, scans[:3], scans[3:], {"theta": 1e-2, "psi": 1e-3}, device=device, **settings
    )


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("guide_class", [MeanField, Point])
@pytest.mark.parametrize("likelihood", [Categorical(), DiceCrossEntropy()], ids=["categorical", "dice"])
@pytest.mark.parametrize("draws", [1, 3])
@pytest.mark.parametrize("kind", ["gaussian", "deep_weight"])
def test_every_prior_guide_and_likelihood_take_three_finite_steps(
    kind: str, guide_class: type, likelihood: object, draws: int, ndim: int, tmp_path: Path, device: torch.device
) -> None:
    prior = Gaussian() if kind == "gaussian" else deep(tmp_path, ndim)
    run = task(prior, guide_class, ndim, device, likelihood=likelihood, draws=draws, kernels_per_group=5)
    before = [p.detach().clone() for p in run.guide.parameters()]
    for _ in range(3):
        assert all(np.isfinite(value) for value in run.step(torch.tensor([0, 2])).values())
    assert all(
        not torch.equal(a, b) and b.isfinite().all() for a, b in zip(before, run.guide.parameters(), strict=True)
    )
    assert set(run.validate()) == {"loss", "dice"}


def test_svi_moves_encoders_and_point_parameters_and_never_the_prior(tmp_path: Path) -> None:
    run = task(deep(tmp_path, 3), MeanField)
    moving = [*run.elbo.encoders.parameters(), *run.model.network.parameters()]
    frozen = list(run.model.prior.parameters())
    before = [[p.detach().clone() for p in group] for group in (moving, frozen)]
    for _ in range(2):
        run.step(torch.tensor([0, 1]))
    assert all(not torch.equal(a, b) for a, b in zip(before[0], moving, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(before[1], frozen, strict=True))


def test_the_likelihood_counts_n_over_b_times_also_in_a_smaller_last_batch() -> None:
    run = task(Gaussian(), Point, kl_weight=0.0)
    run.step(torch.tensor([0, 1]))
    assert run.elbo.data_scale == 3 / 2
    run.step(torch.tensor([2]))
    assert run.elbo.data_scale == 3


def test_the_kl_weight_warms_up_linearly_and_survives_a_reload() -> None:
    run = task(Gaussian(), MeanField, kl_weight=0.4, warm_up=4)
    weights = [run.step(torch.tensor([0]))["kl_weight"] for _ in range(2)]
    resumed = task(Gaussian(), MeanField, kl_weight=0.4, warm_up=4)
    resumed.modules["counter"].load_state_dict(run.modules["counter"].state_dict())
    weights += [resumed.step(torch.tensor([0]))["kl_weight"] for _ in range(3)]
    assert weights == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4])


def test_theta_and_psi_have_their_own_rates(tmp_path: Path) -> None:
    groups = task(deep(tmp_path, 3), MeanField).optimiser.param_groups
    assert {group["name"]: group["lr"] for group in groups} == {"theta": 1e-2, "psi": 1e-3}


def test_predictive_draws_weights_from_the_guide() -> None:
    run = task(Gaussian(), MeanField, likelihood=Categorical())
    predictive = pyro.infer.Predictive(run.model, guide=run.guide, num_samples=2, return_sites=("label", "_RETURN"))
    drawn = predictive(cases(1)[0].image[None])
    assert drawn["label"].shape == (2, 1, EDGE, EDGE, EDGE)
    assert drawn["_RETURN"].shape == (2, 1, 2, EDGE, EDGE, EDGE)


@pytest.mark.parametrize("settings", [{"warm_up": -1}, {"validation_samples": 0}])
def test_impossible_settings_are_refused(settings: dict) -> None:
    with pytest.raises(ConfigError):
        task(Gaussian(), Point, **settings)


def test_a_prior_with_parameters_of_its_own_is_trained_and_kept() -> None:
    class Learned(PriorFamily):
        def __init__(self) -> None:
            super().__init__()
            self.log_scale = torch.nn.Parameter(torch.tensor(-3.0))

        def distribution(self, site: object) -> object:
            return GaussianPrior(self.log_scale.exp(), site.kernel_shape)

    run = task(Learned(), MeanField)
    run.step(torch.tensor([0, 1]))
    assert run.model.prior.log_scale.item() != -3.0
    assert run.modules["prior"] is run.model.prior
    assert "prior" not in task(Gaussian(), MeanField).modules
