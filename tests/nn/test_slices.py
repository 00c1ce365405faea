"""Networks of two dimensions on volumes."""

import pytest
import torch

from pyro_dwp.errors import ConfigError
from pyro_dwp.nn import UNet, check_network
from tests.helpers.refusal import refuses


@pytest.mark.parametrize("grid", [(8, 16, 1), (9, 7, 5)], ids=str)
def test_a_volume_is_segmented_as_its_slices_are_one_by_one(grid: tuple, device: torch.device) -> None:
    network = UNet(in_channels=2, classes=3, channels=(2, 4), ndim=2).to(device)
    volumes = torch.randn(3, 2, *grid, device=device)
    logits = network(volumes)
    assert logits.shape == (3, 3, *grid)
    for number in range(grid[2]):
        for case in range(3):
            alone = network(volumes[case : case + 1, ..., number])[0]
            torch.testing.assert_close(logits[case, ..., number], alone)
    check_network(network, volumes[0])


@pytest.mark.parametrize("shape", [(1, 1, 8, 8, 8), (1, 2, 2, 8)], ids=str)
def test_other_channels_are_refused_in_volumes_and_images_alike(shape: tuple) -> None:
    with refuses("2 channel(s)" if shape[1] == 1 else "above 8 voxels", error=ConfigError):
        UNet(in_channels=2, ndim=2)(torch.zeros(shape))


def test_a_network_of_three_dimensions_refuses_a_single_slice_and_names_the_cure() -> None:
    with refuses("(16, 16, 1)", "--network.ndim 2", error=ConfigError):
        check_network(UNet(channels=(2, 4)), torch.randn(1, 16, 16, 1))
