from collections import Counter, defaultdict

import pytest
import torch
from torch.nn import functional as F

from pyro_dwp.errors import ConfigError
from pyro_dwp.nn import UNet
from tests.helpers.refusal import refuses


def test_the_default_network_has_the_papers_726480_parameters_and_no_bias() -> None:
    network = UNet()
    assert sum(p.numel() for p in network.parameters()) == 726_480
    assert all(name.endswith("weight") for name, _ in network.named_parameters())


def test_the_papers_volume_is_19x23x18_at_the_bottom() -> None:
    features = UNet(channels=(1, 1, 1, 1)).to("meta").encode(torch.zeros(1, 1, 152, 184, 144, device="meta"))
    assert [tuple(x.shape[2:]) for x in features] == [(152, 184, 144), (76, 92, 72), (38, 46, 36), (19, 23, 18)]


@pytest.mark.parametrize("grid", [(8, 16, 8), (9, 13, 7), (1, 5, 30), (16, 24), (11, 3)], ids=str)
def test_logits_lie_on_the_images_grid_whatever_its_size(grid: tuple[int, ...], device: torch.device) -> None:
    network = UNet(in_channels=2, classes=3, channels=(2, 4, 4, 8), ndim=len(grid)).to(device)
    assert network(torch.randn(2, 2, *grid, device=device)).shape == (2, 3, *grid)


def test_padding_takes_edge_values_and_is_cropped_back() -> None:
    network = UNet(channels=(2, 4))
    image = torch.randn(1, 1, 7, 8, 5)
    padded = F.pad(image, (0, 1, 0, 0, 0, 1), mode="replicate")
    torch.testing.assert_close(network(image), network(padded)[:, :, :7, :8, :5])


def test_a_smaller_start_leaves_the_normalised_layers_output_unchanged() -> None:
    network = UNet(channels=(4, 8)).double()
    image = torch.randn(1, 1, 16, 16, 16, dtype=torch.float64)
    before = network.init_conv(image)
    with torch.no_grad():
        network.init_conv.weight.mul_(0.5)
    normalised = [F.instance_norm(x, eps=0.0) for x in (before, network.init_conv(image))]
    torch.testing.assert_close(*normalised)


def test_seven_groups_hold_the_papers_layers_and_26640_kernels() -> None:
    network, layers, counts = UNet(), defaultdict(list), Counter()
    for name, group in network.kernel_groups().items():
        layers[group].append(name.removesuffix(".weight"))
        counts[group] += network.get_parameter(name).shape[:2].numel()
    assert {group: sorted(names) for group, names in layers.items()} == {
        "1": ["down1.conv_1", "init_conv"],
        "2": ["down1.conv_2", "down2.conv_1", "down2.conv_2", "down3.conv_1"],
        "3": ["down3.conv_2", "down4.conv_1", "down4.conv_2", "down5.conv_1"],
        "4": ["down5.conv_2", "down6.conv_1", "down6.conv_2"],
        "5": ["up1.conv_1", "up1.conv_2"],
        "6": ["up2.conv_1", "up2.conv_2"],
        "7": ["up3.conv_1", "up3.conv_2"],
    }
    assert counts == {"1": 528, "2": 4096, "3": 5120, "4": 12_288, "5": 2048, "6": 2048, "7": 512}


@pytest.mark.parametrize(
    "settings",
    [
        *({"ndim": ndim} for ndim in (1, 4, "3")),
        *({"channels": channels} for channels in ((8,), (8, 0), (8, 10**6), (2,) * 20, 8)),
        *({name: value} for name in ("classes", "in_channels") for value in (0, -1, 10**6, 1.5)),
        {"classes": 1},
    ],
    ids=str,
)
def test_impossible_networks_are_refused(settings: dict) -> None:
    with refuses("UNet", *settings, error=ConfigError):
        UNet(**settings)


UNFIT = {(1, 2, 8, 8, 8): "(1, 2, 8, 8, 8)", (1, 1, 8, 8): "(1, 1, 8, 8)", (1, 1, 8, 8, 8): "above 8 voxels"}


@pytest.mark.parametrize("shape", UNFIT, ids=str)
def test_an_image_with_other_channels_or_axes_or_one_voxel_at_the_bottom_is_refused(shape: tuple) -> None:
    with refuses(UNFIT[shape], error=ConfigError):
        UNet()(torch.zeros(shape))
