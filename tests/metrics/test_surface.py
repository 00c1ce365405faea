"""Surface distances against brute force over all pairs of voxels, and against MONAI."""

import itertools
import math
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import compute_hausdorff_distance
from torch import Tensor

from pyro_dwp.metrics import boundary_band, hausdorff_95

SPACINGS = st.tuples(*[st.sampled_from([0.5, 1.0, 2.5, 6.0])] * 3)


def masks(seed: int, shape: tuple[int, ...], *shares: float) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(shape, generator=generator) < share for share in shares]


def surface(mask: Tensor) -> list[tuple[int, ...]]:
    """Return the voxels of a mask with a face neighbour outside it, looked up one by one."""
    voxels = {tuple(voxel) for voxel in mask.nonzero().tolist()}
    axes = [axis for axis, edge in enumerate(mask.shape) if edge > 1]
    steps = [tuple(sign * (axis == other) for other in range(3)) for axis in axes for sign in (1, -1)]
    return [v for v in voxels if any(tuple(map(sum, zip(v, step, strict=True))) not in voxels for step in steps)]


def distance(one: tuple[int, ...], other: tuple[int, ...], spacing: tuple[float, ...]) -> float:
    return math.hypot(*(step * (a - b) for a, b, step in zip(one, other, spacing, strict=True)))


@given(seed=st.integers(0, 1000), spacing=SPACINGS, shape=st.sampled_from([(6, 5, 4), (7, 6, 1), (1, 5, 8)]))
@settings(max_examples=30, deadline=None)
def test_hd95_is_the_quantile_over_all_pairs_of_surface_voxels_in_volumes_and_in_images(seed, spacing, shape):
    pair = masks(seed, shape, 0.6, 0.2)
    if not all(mask.any() for mask in pair):
        return
    one, other = map(surface, pair)
    apart = [[min(distance(v, w, spacing) for w in to) for v in points] for points, to in ((one, other), (other, one))]
    expected = max(float(np.quantile(distances, 0.95)) for distances in apart)
    assert hausdorff_95(*(mask.long() for mask in pair), spacing) == {1: pytest.approx(expected)}


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
def test_hd95_of_each_class_is_monais():
    prediction, truth = torch.randint(0, 3, (2, 12, 10, 8), generator=torch.Generator().manual_seed(0))
    prediction[:6] = 0
    one_hot = [torch.stack([volume == label for label in range(3)])[None] for volume in (prediction, truth)]
    expected = compute_hausdorff_distance(*one_hot, percentile=95, spacing=(1.0, 2.0, 5.0))[0].tolist()
    assert list(hausdorff_95(prediction, truth, (1.0, 2.0, 5.0)).values()) == pytest.approx(expected)


def test_hd95_is_given_for_labels_on_both_sides_only():
    truth = torch.tensor([[[0, 1, 1, 4]]])
    assert hausdorff_95(truth.clamp(max=1), truth, (1.0, 1.0, 1.0)) == {1: 0.95}  # of 0 and 1 mm
    assert hausdorff_95(0 * truth, truth, (1.0, 1.0, 1.0)) == {}


@given(seed=st.integers(0, 1000), spacing=SPACINGS, width=st.sampled_from([0.1, 1.0, 2.5, 5.0]), share=st.floats(0, 1))
@settings(max_examples=30, deadline=None)
@pytest.mark.parametrize("slab", [1, 2**22])
def test_the_band_is_where_the_other_side_is_near(slab, seed, spacing, width, share):
    mask = masks(seed, (6, 5, 4), share)[0]
    mask[3:] = False
    with patch("pyro_dwp.metrics.surface.SLAB", slab):
        band = boundary_band(mask, spacing, width)
    limit, voxels = max(width, *[min(spacing)]), {True: [], False: []}
    for voxel in itertools.product(*map(range, mask.shape)):
        voxels[bool(mask[voxel])].append(voxel)
    for side, there in voxels.items():
        for voxel in there:
            assert bool(band[voxel]) == any(distance(voxel, w, spacing) <= limit for w in voxels[not side])
