"""Sliding windows against the whole volume."""

from itertools import product

import pytest
import torch
from torch import Tensor

from pyro_dwp.errors import ConfigError
from pyro_dwp.nn import UNet
from pyro_dwp.nn.windows import class_probabilities
from tests.helpers.refusal import refuses

IMAGE = torch.randn(1, 11, 9, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def voxelwise(x: Tensor) -> Tensor:
    """A network that looks at one voxel at a time."""
    return torch.cat([x, -2 * x, x.square()], dim=1)


@pytest.mark.parametrize("window", [(11, 9, 7), (16, 16, 16), (11, 30, 7)])
def test_a_window_that_covers_the_volume_changes_nothing(window):
    network = UNet(channels=(2, 4)).double()
    assert torch.equal(class_probabilities(network, IMAGE, window), class_probabilities(network, IMAGE))


@pytest.mark.parametrize(
    ("image", "window"), [*((IMAGE, window) for window in [(4, 4, 4), (5, 3, 2), (4, 16, 16)]), (IMAGE[:, 0], (4, 4))]
)
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.75])
@pytest.mark.parametrize("batch", [1, 3])
def test_windows_do_not_matter_to_a_network_that_sees_one_voxel(image, window, overlap, batch):
    stitched = class_probabilities(voxelwise, image, window, overlap, batch)
    torch.testing.assert_close(stitched, class_probabilities(voxelwise, image), rtol=1e-10, atol=1e-12)


def test_the_network_never_sees_more_than_a_window_nor_more_windows_than_the_batch():
    shapes = set()
    class_probabilities(lambda x: shapes.add(tuple(x.shape)) or voxelwise(x), IMAGE, (4, 16, 5), batch=2)
    assert {shape[1:] for shape in shapes} == {(1, 4, 9, 5)}
    assert max(shape[0] for shape in shapes) == 2


@pytest.mark.parametrize(("window", "overlap"), [((4, 5, 7), 0.25), ((3, 4, 2), 0.5), ((10, 8, 3), 0.0)])
def test_windows_are_averaged_with_weights_that_fall_off_as_a_gaussian_from_their_centres(window, overlap):
    def network(x: Tensor) -> Tensor:
        return voxelwise(x - x.mean((2, 3, 4), keepdim=True))  # another answer in each window

    total, weights = torch.zeros(3, 11, 9, 7, dtype=torch.float64), torch.zeros(11, 9, 7, dtype=torch.float64)
    centred = [(torch.arange(edge).double() - (edge - 1) / 2) / (edge / 8) for edge in window]
    weight = torch.einsum("d,h,w->dhw", *(torch.exp(-0.5 * it.square()).clamp_min(1e-3) for it in centred))
    lasts = [int(edge) for edge in torch.tensor([11, 9, 7]) - torch.tensor(window)]
    steps = [max(1, int(edge * (1 - overlap))) for edge in window]
    for d, h, w in product(*({*range(0, last, step), last} for last, step in zip(lasts, steps, strict=True))):
        inside = slice(d, d + window[0]), slice(h, h + window[1]), slice(w, w + window[2])
        total[(slice(None), *inside)] += weight * network(IMAGE[(slice(None), *inside)][None]).softmax(1)[0]
        weights[inside] += weight
    torch.testing.assert_close(class_probabilities(network, IMAGE, window, overlap, batch=2), total / weights)


BAD = [{"window": window} for window in ((4, 4), (4, 0, 4), (4, 4.5, 4))] + [{"batch": 0}, {"batch": 10**9}]
BAD += [{"window": (4, 4, 4), "overlap": overlap} for overlap in (1.0, -0.1, float("nan"))]


@pytest.mark.parametrize("settings", BAD, ids=str)
def test_windows_that_cannot_work_are_refused(settings):
    with refuses([*settings][-1], error=ConfigError):
        class_probabilities(voxelwise, IMAGE, **settings)
