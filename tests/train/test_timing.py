import torch

from guides import MeanField
from models.segmentation import SegmentationModel
from pyro_dwp.infer import AuxiliaryELBO
from pyro_dwp.likelihoods import Categorical
from pyro_dwp.nn import UNet
from pyro_dwp.priors import Gaussian
from pyro_dwp.train import timing


def test_the_median_of_the_timed_steps_is_returned_and_the_first_two_do_not_count(monkeypatch) -> None:
    clock = iter([0.0, 100.0, 200.0, 300.0, 400.0, 401.0, 500.0, 505.0, 600.0, 602.0])
    monkeypatch.setattr(timing, "perf_counter", lambda: next(clock))
    network = UNet(channels=(2, 4), ndim=2)
    model = SegmentationModel(network, Gaussian(), Categorical())
    guide = MeanField(model.sites, {name: network.get_parameter(name) for name in model.sites})
    before = {name: value.clone() for name, value in guide.state_dict().items()}
    image, label = torch.randn(1, 1, 8, 8), torch.randint(2, (1, 8, 8))
    assert timing.seconds_per_step(model, guide, AuxiliaryELBO(), image, label, steps=3) == 2.0
    assert all(not torch.equal(before[name], value) for name, value in guide.state_dict().items())
