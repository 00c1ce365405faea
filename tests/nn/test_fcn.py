import pytest
import torch
from torch.nn import functional as F

from pyro_dwp.errors import ConfigError
from pyro_dwp.nn import FCN
from pyro_dwp.sites import weight_sites
from tests.helpers.refusal import refuses


def test_at_full_width_the_encoder_has_the_14714688_parameters_of_vgg_16_and_fc6_and_fc7_those_of_the_paper() -> None:
    with torch.device("meta"):
        network = FCN(in_channels=3, classes=21)
    sizes = {name: sum(p.numel() for p in layer.parameters()) for name, layer in network.named_children()}
    assert sum(size for name, size in sizes.items() if name.startswith("conv")) == 14_714_688
    assert (sizes["fc6"], sizes["fc7"]) == (7 * 7 * 512 * 4096 + 4096, 4096 * 4096 + 4096)
    assert (sizes["score"], sizes["score4"], sizes["score3"]) == tuple(21 * (width + 1) for width in (4096, 512, 256))


@pytest.mark.parametrize("grid", [(32, 64), (33, 31), (1, 5), (40, 33, 3)], ids=str)
@pytest.mark.parametrize(("channels", "classes"), [(1, 2), (4, 5)])
def test_logits_lie_on_the_images_grid_whatever_its_size(grid, channels, classes, device) -> None:
    network = FCN(channels, classes, width=2).to(device)
    assert network(torch.randn(2, channels, *grid, device=device)).shape == (2, classes, *grid)


def test_features_are_at_strides_2_to_32() -> None:
    features = FCN(width=2).encode(torch.randn(1, 1, 64, 96))
    assert [tuple(x.shape[1:]) for x in features] == [(2, 32, 48), (4, 16, 24), (8, 8, 12), (16, 4, 6), (16, 2, 3)]


def test_slices_of_a_volume_and_images_of_a_batch_do_not_see_each_other() -> None:
    network, volume = FCN(2, 3, width=2).double(), torch.randn(2, 2, 32, 40, 3, dtype=torch.float64)
    each = torch.stack([network(volume[..., i]) for i in range(3)], dim=-1)
    torch.testing.assert_close(network(volume), each)
    torch.testing.assert_close(network(volume[:1]), each[:1])


def test_padding_takes_edge_values_and_is_cropped_back() -> None:
    network, image = FCN(width=2).double(), torch.randn(1, 1, 30, 35, dtype=torch.float64)
    padded = F.pad(image, (0, 29, 0, 2), mode="replicate")
    torch.testing.assert_close(network(image), network(padded)[..., :30, :35])


def test_each_skip_and_the_deepest_layer_change_the_output() -> None:
    network, image = FCN(width=2), torch.randn(1, 1, 64, 64)
    network(image).square().mean().backward()
    assert all(
        p.grad is not None and p.grad.abs().max() > 0 for name, p in network.named_parameters() if "weight" in name
    )


def test_every_spatial_kernel_has_a_group_of_kernels_of_its_size() -> None:
    sites = weight_sites(FCN(width=1))
    shapes = {(site.group, tuple(site.kernel_shape)) for site in sites.values()}
    assert shapes == {(group, (3, 3)) for group in "12345"} | {("6", (7, 7))}


def test_it_learns_where_an_image_is_bright() -> None:
    image = F.avg_pool2d(torch.randn(4, 1, 48, 48), 9, stride=1, padding=4)
    label = (image[:, 0] > 0).long()
    network = FCN(width=4)
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(40):
        optimiser.zero_grad()
        loss = F.cross_entropy(network(image), label)
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.5  # log 2 = 0.69 without anything learned


@pytest.mark.parametrize("shape", [(1, 2, 32, 32), (1, 32, 32), (1, 1, 32, 32, 3, 3)], ids=str)
def test_an_image_with_other_channels_or_axes_is_refused(shape: tuple) -> None:
    with refuses("FCN", str(shape), "in_channels", error=ConfigError):
        FCN(width=1)(torch.zeros(shape))


@pytest.mark.parametrize("settings", [{"width": 0}, {"classes": 1}, {"in_channels": 0}], ids=str)
def test_impossible_networks_are_refused(settings: dict) -> None:
    with refuses("FCN", *settings, error=ConfigError):
        FCN(**settings)
