"""Freezing by layer patterns: what is frozen is no site, no optimiser moves it, and the rest learns."""

import numpy as np
import pytest
import torch

from guides import MeanField
from models.segmentation import SegmentationModel
from pyro_dwp import AuxiliaryELBO, DiceCrossEntropy, Gaussian, UNet, VariationalTask
from pyro_dwp.data import Prepared
from pyro_dwp.errors import ConfigError
from pyro_dwp.transfer import freeze_layers, take_over
from tests.helpers.refusal import refuses


def scans() -> list[Prepared]:
    images = torch.randn(2, 1, 8, 8, 8)
    return [Prepared("a", it, (it[0] > 0).long(), np.eye(4), (8, 8, 8), ((0, 8),) * 3) for it in images]


@pytest.mark.parametrize("patterns", [["down?.*"], ["up1.conv_?.weight", "final_conv.*"]])
def test_a_frozen_layer_keeps_its_bits_and_all_others_learn(patterns):
    network = UNet(channels=(2, 4))
    frozen = freeze_layers(network, patterns)
    model = SegmentationModel(network, Gaussian(0.1), DiceCrossEntropy())
    assert not set(frozen) & set(model.sites)
    guide = MeanField(model.sites)
    guide.start(lambda: {name: network.get_parameter(name).detach().clone() for name in model.sites}, model.prior)
    before = {key: value.clone() for key, value in guide.state_dict().items()}
    points = {key: value.clone() for key, value in model.network.state_dict().items()}
    task = VariationalTask(model, guide, AuxiliaryELBO({}), scans(), [], {"posterior": 1e-2, "encoders": 0.0})
    task.step(torch.arange(2))
    assert all(not torch.equal(value, before[key]) for key, value in guide.state_dict().items())
    for key, value in model.network.state_dict().items():
        assert torch.equal(value, points[key]) == (key.removeprefix("network.") in frozen)


def test_a_pattern_that_matches_nothing_or_everything_is_refused():
    with refuses("freeze", "dwon1.*", "down1", error=ConfigError):
        freeze_layers(UNet(channels=(2, 4)), ["dwon1.*"])
    with refuses("freeze", "nothing is left", error=ConfigError):
        freeze_layers(UNet(channels=(2, 4)), ["*"])


@pytest.mark.parametrize("asked", [{"start": "source"}, {"start": "prior", "freeze": ["down1.*"]}])
def test_what_needs_a_source_network_asks_for_one(asked):
    with refuses("--source", error=ConfigError):
        take_over(UNet(channels=(2, 4)), None, **asked)


def test_a_source_network_does_not_pass_for_a_random_start(tmp_path):
    with refuses("--start random", "net.safetensors", error=ConfigError):
        take_over(UNet(channels=(2, 4)), tmp_path / "net.safetensors", "random")
