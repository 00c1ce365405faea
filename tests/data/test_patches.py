"""Random patches: what they hold, that their weighted sums are those of the whole case, and that nothing else is random."""

from itertools import product

import numpy as np
import pyro
import pytest
import torch
from torch import Tensor, nn

from models.segmentation import SegmentationModel
from pyro_dwp.data import Prepared, cut_patch, draw_patch, stack
from pyro_dwp.data.patches import axis_weights
from pyro_dwp.likelihoods import Categorical, DiceCrossEntropy, Likelihood
from pyro_dwp.priors import Gaussian
from tests.helpers.monte_carlo import assert_mean

GRID = (4, 3, 2)


def case(grid: tuple[int, int, int] = GRID, seed: int = 0) -> Prepared:
    """A case with two channels, whose image tells a voxel from any other."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(2, *grid, generator=generator)
    label = torch.randint(3, grid, generator=generator)
    return Prepared("a", image, label, np.eye(4), grid, tuple((0, edge) for edge in grid))


def every_patch(whole: Prepared, size: tuple[int, int, int]) -> list[Prepared]:
    """The patches at all offsets, which are equally likely."""
    edges = [range(1 - min(p, n), n) for n, p in zip(whole.image.shape[1:], size, strict=True)]
    return [cut_patch(whole, size, offsets) for offsets in product(*edges)]


class Voxelwise(nn.Module):
    """A network that sees one voxel at a time, so that a patch has the logits of the whole case."""

    classes, in_channels = 3, 2

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv3d(2, 3, 3)

    def forward(self, image: Tensor) -> Tensor:
        return nn.functional.conv3d(image, self.mix.weight.sum((2, 3, 4), keepdim=True))


def data_term(likelihood: Likelihood, *scans: Prepared, total: int) -> float:
    """Return the data term of a minibatch for fixed weights."""
    torch.manual_seed(0)
    model, batch = SegmentationModel(Voxelwise(), Gaussian(), likelihood), stack(scans)
    trace = pyro.poutine.trace(model).get_trace(batch.image, batch.label, total, batch.weight)
    return trace.log_prob_sum(lambda name, site: name == "label").item()


SIZES = [(1, 1, 1), (2, 2, 2), (3, 1, 2), (4, 3, 2), (9, 2, 9)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("likelihood", [Categorical(0.3), DiceCrossEntropy(0.3, dice_weight=0)], ids=["labels", "mean"])
def test_the_expected_data_term_of_a_patch_is_that_of_the_whole_case(size, likelihood):
    patches = every_patch(case(), size)
    expected = data_term(likelihood, case(), total=7)
    assert np.mean([data_term(likelihood, patch, total=7) for patch in patches]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_any_weighted_sum_is_unbiased_and_the_weights_add_up_to_the_voxels(size):
    patches, whole = every_patch(case(), size), case()
    sums = torch.stack([(patch.image * patch.weight).sum((1, 2, 3)) for patch in patches])
    torch.testing.assert_close(sums.mean(0), whole.image.sum((1, 2, 3)), rtol=1e-4, atol=1e-4)
    assert np.mean([patch.weight.sum().item() for patch in patches]) == pytest.approx(whole.label.numel(), rel=1e-5)


@pytest.mark.parametrize(("voxels", "edge"), [(n, p) for n in (1, 2, 5, 9) for p in (1, 2, 3, 5, 8, 9) if p <= n])
def test_the_weight_of_a_voxel_is_one_over_the_share_of_offsets_whose_patch_holds_it(voxels, edge):
    starts = [min(max(offset, 0), voxels - edge) for offset in range(1 - edge, voxels)]
    held = [sum(start <= voxel < start + edge for start in starts) for voxel in range(voxels)]
    assert axis_weights(voxels, edge).tolist() == pytest.approx([len(starts) / count for count in held])
    assert min(held) >= edge


def test_a_patch_is_a_part_of_its_case_and_a_patch_of_its_size_is_the_case():
    whole = case((5, 6, 4))
    patch = cut_patch(whole, (3, 2, 9), (1, -1, 2))
    assert torch.equal(patch.image, whole.image[:, 1:4, :2])
    assert torch.equal(patch.label, whole.label[1:4, :2])
    same = draw_patch(whole, (5, 8, 4))
    assert torch.equal(same.image, whole.image)
    assert torch.equal(same.weight, torch.ones(5, 6, 4))
    assert draw_patch(whole, None) is whole


def test_every_offset_is_equally_likely_and_follows_torchs_global_generator():
    torch.manual_seed(0)
    whole, draws = case((5, 1, 1)), 4000
    starts = [
        int((whole.image[0, :, 0, 0] == draw_patch(whole, (3, 1, 1)).image[0, 0, 0, 0]).nonzero()) for _ in range(draws)
    ]
    shares = torch.tensor([3 / 7, 1 / 7, 3 / 7])  # of the starts 0, 1 and 2, to which 3, 1 and 3 of 7 offsets lead
    assert_mean(nn.functional.one_hot(torch.tensor(starts), 3).double(), shares, within=0.03)
    state = torch.random.get_rng_state()
    first = draw_patch(case((9, 9, 9)), (2, 2, 2))
    torch.random.set_rng_state(state)
    assert torch.equal(first.image, draw_patch(case((9, 9, 9)), (2, 2, 2)).image)


def test_patches_of_cases_of_different_grids_make_a_batch():
    batch = stack([draw_patch(case(grid), (3, 3, 2)) for grid in [(4, 3, 2), (9, 5, 3)]])
    assert batch.weight.shape == batch.label.shape == (2, 3, 3, 2)
