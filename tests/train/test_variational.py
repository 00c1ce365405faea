"""Variational training as a task: what moves, how the likelihood counts, and what is kept."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from guides import MeanField, Point
from models.segmentation import SegmentationModel
from pyro_dwp.data import Patches, Prepared
from pyro_dwp.errors import ConfigError
from pyro_dwp.infer import AuxiliaryELBO
from pyro_dwp.likelihoods import Categorical, DiceCrossEntropy
from pyro_dwp.nn import UNet
from pyro_dwp.priors import DeepWeight, DeepWeightDensity, Gaussian, GaussianPrior, Prior
from pyro_dwp.priors.store import save_prior
from pyro_dwp.train import VariationalTask
from pyro_dwp.transfer import start_function
from tests.helpers.refusal import refuses

RATES = {"posterior": 1e-2, "encoders": 1e-3}


def network() -> UNet:
    return UNet(channels=(2, 4))


@pytest.fixture
def deep(tmp_path: Path) -> DeepWeight:
    density = DeepWeightDensity((3, 3, 3), latent=2, hidden=8, kernel_scale=0.2)
    save_prior(tmp_path / "prior.safetensors", dict.fromkeys(network().kernel_groups().values(), density), {})
    return DeepWeight(tmp_path / "prior.safetensors")


def task(prior: Prior, guide_class: type = MeanField, likelihood: object = None, **settings: object) -> VariationalTask:
    elbo = {key: settings.pop(key) for key in ("kl_weight", "warm_up", "draws", "kernels_per_group") if key in settings}
    model = SegmentationModel(network(), prior, likelihood or DiceCrossEntropy())
    guide = guide_class(model.sites)
    guide.start(start_function("random", model.sites, network(), prior), prior)
    images = torch.randn(5, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    scans = [
        Prepared(str(i), image, (image[0] > 0.5).long(), np.eye(4), (8,) * 3, ((0, 8),) * 3)
        for i, image in enumerate(images)
    ]
    bound = AuxiliaryELBO(prior.encoders(), **elbo)
    return VariationalTask(model, guide, bound, scans[:3], scans[3:], **{"rates": RATES, **settings})


@pytest.mark.parametrize("guide_class", [MeanField, Point])
@pytest.mark.parametrize("likelihood", [Categorical(), DiceCrossEntropy()], ids=["categorical", "dice"])
def test_svi_moves_guide_encoders_and_point_parameters_and_never_the_prior(deep, guide_class, likelihood, device):
    run = task(deep, guide_class, likelihood, draws=3, kernels_per_group=20, device=device)
    moving = [p for module in (run.guide, run.elbo.encoders, run.model.network) for p in module.parameters()]
    frozen = list(run.model.prior.parameters())
    before = [[p.detach().clone() for p in group] for group in (moving, frozen)]
    for _ in range(3):
        assert all(math.isfinite(value) for value in run.step(torch.tensor([0, 2])).values())
    assert all(not torch.equal(a, b) and b.isfinite().all() for a, b in zip(before[0], moving, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(before[1], frozen, strict=True))
    assert set(run.validate()) == {"loss", "dice"}
    assert {group["name"]: group["lr"] for group in run.optimiser.param_groups} == RATES


def test_the_likelihood_counts_n_over_b_times_also_in_a_smaller_last_batch() -> None:
    run = task(Gaussian(), Point, rates={"posterior": 0.0, "encoders": 0.0})
    whole, pair, *single = (float(run.step(torch.tensor(i))["data"]) for i in ([0, 1, 2], [0, 1], [0], [1], [2]))
    assert sum(single) / 3 == pytest.approx(whole)
    assert sum(single[:2]) / 2 == pytest.approx(pair)


def test_the_kl_weight_warms_up_linearly_and_survives_a_reload() -> None:
    run, resumed = (task(Gaussian(), kl_weight=0.4, warm_up=4) for _ in range(2))
    weights = [float(run.step(torch.tensor([0]))["kl_weight"]) for _ in range(2)]
    resumed.modules["encoders"].load_state_dict(run.modules["encoders"].state_dict())
    weights += [float(resumed.step(torch.tensor([0]))["kl_weight"]) for _ in range(3)]
    assert weights == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4])


def test_a_step_sees_patches_and_validation_windows_of_their_size() -> None:
    run, shapes = task(Gaussian(), patches=Patches((8, 4, 6))), set()
    run.model.network.register_forward_hook(lambda module, inputs, output: shapes.add(tuple(output.shape[2:])))
    assert math.isfinite(run.step(torch.tensor([0, 2]))["loss"])
    assert set(run.validate()) == {"loss", "dice"}
    assert shapes == {(8, 4, 6)}


@pytest.mark.parametrize("likelihood", [Categorical(), DiceCrossEntropy()], ids=["categorical", "dice"])
def test_a_patch_as_large_as_the_scans_changes_nothing(likelihood) -> None:
    found = []
    for patch in (None, (8, 9, 8)):
        torch.manual_seed(0)
        run = task(Gaussian(), Point, likelihood, patches=Patches(patch))
        found.append([float(run.step(torch.tensor([0, 2]))["data"]), *run.validate().values()])
    assert found[0] == pytest.approx(found[1], rel=1e-5)


@pytest.mark.parametrize(
    "settings", [{"warm_up": -1}, {"validation_samples": 0}, {"validation_samples": 10**8}, {"clip_norm": 0.0}]
)
def test_impossible_settings_are_refused(settings: dict) -> None:
    with refuses(*settings, error=ConfigError):
        task(Gaussian(), Point, **settings)


def test_a_prior_with_parameters_of_its_own_is_trained_and_kept() -> None:
    class Learned(Prior):
        def __init__(self) -> None:
            super().__init__()
            self.log_scale = nn.Parameter(torch.tensor(-3.0))

        def distribution(self, site: object) -> object:
            return GaussianPrior(self.log_scale.exp(), site.kernel_shape)

    run = task(Learned())
    run.step(torch.tensor([0, 1]))
    assert run.model.prior.log_scale.item() != -3.0
    assert run.modules["prior"] is run.model.prior
    assert "prior" not in task(Gaussian()).modules
