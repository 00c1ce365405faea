"""Sliding windows against the whole volume."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from pyro_dwp.errors import ConfigError
from pyro_dwp.nn import UNet
from pyro_dwp.predict import class_probabilities


def voxelwise(x: Tensor) -> Tensor:
    """A network that looks at one voxel at a time."""
    return torch.cat([x, -2 * x, x.square()], dim=1)


@pytest.fixture
def image() -> Tensor:
    return torch.randn(1, 11, 9, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("window", [(11, 9, 7), (16, 16, 16), (11, 30, 7)])
def test_a_window_that_covers_the_volume_changes_nothing(image: Tensor, window: Sequence[int]) -> None:
    network = UNet(channels=(2, 4)).double()
    assert torch.equal(class_probabilities(network, image, window), class_probabilities(network, image))


@pytest.mark.parametrize("window", [(4, 4, 4), (5, 3, 2), (4, 16, 16)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.75])
@pytest.mark.parametrize("batch", [1, 3])
def test_windows_do_not_matter_to_a_network_that_sees_one_voxel(
    image: Tensor, window: Sequence[int], overlap: float, batch: int
) -> None:
    stitched = class_probabilities(voxelwise, image, window, overlap, batch)
    torch.testing.assert_close(stitched, class_probabilities(voxelwise, image), rtol=1e-10, atol=1e-12)


def test_stitched_probabilities_sum_to_one(image: Tensor) -> None:
    total = class_probabilities(UNet(channels=(2, 4)).double(), image, (8, 8, 4)).sum(0)
    torch.testing.assert_close(total, torch.ones_like(total))


def test_the_network_never_sees_more_than_a_window_nor_more_windows_than_the_batch(image: Tensor) -> None:
    shapes = set()

    def network(x: Tensor) -> Tensor:
        shapes.add(tuple(x.shape))
        return voxelwise(x)

    class_probabilities(network, image, (4, 16, 5), batch=2)
    assert {shape[1:] for shape in shapes} == {(1, 4, 9, 5)}
    assert max(shape[0] for shape in shapes) == 2


def test_a_slice_is_predicted_by_windows_too() -> None:
    image = torch.randn(1, 9, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(class_probabilities(voxelwise, image, (4, 4)), class_probabilities(voxelwise, image))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": (4, 4)}, r"window is \(4, 4\)"),
        ({"window": (4, 0, 4)}, r"window is \(4, 0, 4\)"),
        ({"window": (4, 4, 4), "overlap": 1.0}, "overlap is 1.0"),
        ({"batch": 0}, "batch is 0"),
    ],
)
def test_windows_that_cannot_work_are_refused(image: Tensor, settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        class_probabilities(voxelwise, image, **settings)
