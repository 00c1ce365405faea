import pytest
import torch
from torch.nn import functional as F

from pyro_dwp.errors import ConfigError
from pyro_dwp.nn import UNet


def test_the_default_network_has_the_papers_726480_parameters_and_no_bias() -> None:
    network = UNet()
    assert sum(p.numel() for p in network.parameters()) == 726_480
    assert all(name.endswith("weight") for name, _ in network.named_parameters())


def test_the_papers_volume_is_19x23x18_at_the_bottom() -> None:
    network = UNet(channels=(1, 1, 1, 1))
    features = network.encode(torch.zeros(1, 1, 152, 184, 144))
    assert [tuple(x.shape[2:]) for x in features] == [(152, 184, 144), (76, 92, 72), (38, 46, 36), (19, 23, 18)]


@pytest.mark.parametrize(
    ("ndim", "grid"), [(3, (8, 16, 8)), (3, (9, 13, 7)), (3, (1, 5, 30)), (2, (16, 24)), (2, (11, 3))]
)
def test_logits_lie_on_the_images_grid_whatever_its_size(
    ndim: int, grid: tuple[int, ...], device: torch.device
) -> None:
    network = UNet(in_channels=2, classes=3, channels=(2, 4, 4, 8), ndim=ndim).to(device)
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


def test_seven_groups_hold_the_papers_layers() -> None:
    groups = UNet().kernel_groups()
    layers: dict[str, list[str]] = {}
    for name, group in groups.items():
        layers.setdefault(group, []).append(name.removesuffix(".weight"))
    assert {group: sorted(names) for group, names in layers.items()} == {
        "1": ["down1.conv_1", "init_conv"],
        "2": ["down1.conv_2", "down2.conv_1", "down2.conv_2", "down3.conv_1"],
        "3": ["down3.conv_2", "down4.conv_1", "down4.conv_2", "down5.conv_1"],
        "4": ["down5.conv_2", "down6.conv_1", "down6.conv_2"],
        "5": ["up1.conv_1", "up1.conv_2"],
        "6": ["up2.conv_1", "up2.conv_2"],
        "7": ["up3.conv_1", "up3.conv_2"],
    }


def test_the_seven_groups_hold_26640_kernels() -> None:
    network = UNet()
    counts: dict[str, int] = {}
    for name, group in network.kernel_groups().items():
        counts[group] = counts.get(group, 0) + network.get_parameter(name).shape[:2].numel()
    assert counts == {"1": 528, "2": 4096, "3": 5120, "4": 12_288, "5": 2048, "6": 2048, "7": 512}


@pytest.mark.parametrize("settings", [{"ndim": 4}, {"channels": (8,)}, {"classes": 1}, {"in_channels": 0}])
def test_impossible_networks_are_refused(settings: dict) -> None:
    with pytest.raises(ConfigError):
        UNet(**settings)


def test_an_image_with_other_channels_or_axes_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"received shape \(1, 2, 8, 8, 8\)"):
        UNet()(torch.zeros(1, 2, 8, 8, 8))


def test_an_image_that_is_one_voxel_at_the_bottom_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"above 8 voxels.*\(8, 8, 8\)"):
        UNet()(torch.zeros(1, 1, 8, 8, 8))
