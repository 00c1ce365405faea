"""MC dropout: which channels are dropped, what is trained, and the point guide as its limit."""

import pyro
import pytest
import torch
from torch import Tensor, nn

from guides import Dropout, Point
from models.segmentation import SegmentationModel
from pyro_dwp.errors import ConfigError
from pyro_dwp.infer import AuxiliaryELBO, Flipout
from pyro_dwp.likelihoods import Categorical
from pyro_dwp.nn import UNet
from pyro_dwp.priors import Gaussian
from pyro_dwp.sites import weight_sites
from tests.helpers.guides import started
from tests.helpers.refusal import refuses

LAYERS = {  # kind of layer → its input channels' axis, None where nothing is dropped
    "convolution": (nn.Conv2d(4, 6, 3), 1),
    "transposed": (nn.ConvTranspose3d(4, 6, 2), 0),
    "grouped": (nn.Conv2d(8, 6, 3, groups=2), 1),
    "linear": (nn.Linear(4, 6), 1),
    "one channel": (nn.Conv3d(1, 6, 3), None),
    "transposed, one channel": (nn.ConvTranspose2d(1, 6, 3), None),
}


def dropped(layer: nn.Module, rate: float = 0.5) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
    """Return the weights that a guide starts from, and 60 of its draws."""
    sites = weight_sites(layer, expose=lambda site: True)
    start = {name: torch.randn(site.shape) for name, site in sites.items()}
    guide = started(Dropout(sites, rate), start)
    with torch.no_grad():
        return start, [guide() for _ in range(60)]


@pytest.mark.parametrize("kind", LAYERS)
def test_whole_input_channels_are_dropped_but_no_bias_and_never_the_only_channel(kind: str) -> None:
    layer, axis = LAYERS[kind]
    start, draws = dropped(layer)
    assert all(torch.equal(draw["bias"], start["bias"]) for draw in draws)
    if axis is None:
        assert all(torch.equal(draw["weight"], start["weight"]) for draw in draws)
        return
    kept = torch.stack([draw["weight"] != 0 for draw in draws]).movedim(axis + 1, 1).flatten(2)
    assert torch.equal(kept, kept[..., :1].expand_as(kept))
    assert kept[..., 0].any(0).all()
    assert not kept[..., 0].all(0).any()
    for draw in draws:
        torch.testing.assert_close(draw["weight"], 2 * start["weight"] * (draw["weight"] != 0))


def test_a_dropped_channel_of_the_weights_is_a_dropped_map_of_the_input() -> None:
    layer, image = nn.Conv2d(4, 6, 3), torch.randn(2, 4, 7, 7)
    for draw in dropped(layer)[1][:10]:
        kept = (draw["weight"] != 0).flatten(2).any(2).any(0)
        found = nn.functional.conv2d(image, draw["weight"], draw["bias"])
        changed = torch.where(kept[:, None, None], image, torch.randn_like(image))
        torch.testing.assert_close(nn.functional.conv2d(changed, draw["weight"], draw["bias"]), found)


@pytest.mark.parametrize("ndim", [2, 3])
def test_at_rate_0_weights_loss_and_gradients_are_the_point_guides_bit_for_bit(ndim: int) -> None:
    network = UNet(channels=(2, 4), ndim=ndim)
    model = SegmentationModel(network, Gaussian(), Categorical())
    start = {name: network.get_parameter(name).detach() for name in model.sites}
    image, label = torch.randn(2, 1, *[8] * ndim), torch.randint(2, (2, *[8] * ndim))
    found = []
    for guide in (started(Point(model.sites), start), started(Dropout(model.sites, rate=0), start)):
        loss = AuxiliaryELBO(kl_weight=0).differentiable_loss(model, guide, image, label)
        slopes = torch.autograd.grad(loss, [guide.parameter("value", name) for name in model.sites])
        found.append([loss, *slopes, *guide().values()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_a_gaussian_prior_is_weight_decay_without_noise(rate: float) -> None:
    """d/dm of −E_q log N(w; 0, s²) is m / (s² (1 − p)) where channels are dropped, and m / s² elsewhere."""
    torch.set_default_dtype(torch.float64)
    network, prior = UNet(channels=(2, 4)), Gaussian(scale=0.1)
    sites = weight_sites(network)
    guide = started(Dropout(sites, rate), {name: network.get_parameter(name).detach() for name in sites})

    def model() -> None:
        for name, site in sites.items():
            pyro.sample(name, prior.site_distribution(site))

    first, second = (AuxiliaryELBO().differentiable_loss(model, guide) for _ in range(2))
    assert first == second
    for name in sites:
        m = guide.parameter("value", name)
        (slope,) = torch.autograd.grad(first, m, retain_graph=True)
        torch.testing.assert_close(slope, m / (0.01 * (1 if name == "init_conv.weight" else 1 - rate)))


def test_flipout_refuses_dropout_as_it_refuses_a_point() -> None:
    network = UNet(channels=(2, 4), ndim=2)
    model = SegmentationModel(network, Gaussian(), Categorical())
    start = {name: network.get_parameter(name).detach() for name in model.sites}
    with refuses("Dropout", "shared_sample", error=ConfigError):
        Flipout()(model, started(Dropout(model.sites), start))


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_a_rate_that_is_no_chance_or_drops_everything_is_refused(rate: float) -> None:
    with refuses(f"rate is {rate}", error=ConfigError):
        Dropout({}, rate=rate)
