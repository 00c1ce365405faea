"""Random patches: what they hold, that their weighted sums are those of the whole case, and that nothing else is random."""

from itertools import pairwise, product

import numpy as np
import pyro
import pytest
import torch
from torch import Tensor, nn

from models.segmentation import SegmentationModel
from pyro_dwp.data import Augment, Patches, Prepared, cut_patch, draw_patch, stack
from pyro_dwp.data.patches import patch_starts, start_chances
from pyro_dwp.errors import ConfigError
from pyro_dwp.likelihoods import Categorical, DiceCrossEntropy, Likelihood, VoxelCategorical
from pyro_dwp.priors import Gaussian
from pyro_dwp.train.point import minibatch
from tests.helpers.monte_carlo import assert_mean
from tests.helpers.refusal import refuses

GRID = (4, 3, 2)
SIZES = [(1, 1, 1), (2, 2, 2), (3, 1, 2), (4, 3, 2), (9, 2, 9)]
WAYS = [Patches(size, balance) for size in SIZES for balance in (0.0, 0.5, 0.9)]


def case(grid: tuple[int, int, int] = GRID, seed: int = 0) -> Prepared:
    """A case with two channels, whose image tells a voxel from any other, and three classes."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(2, *grid, generator=generator)
    label = torch.randint(3, grid, generator=generator)
    return Prepared("a", image, label, np.eye(4), grid, tuple((0, edge) for edge in grid))


def every_patch(whole: Prepared, patches: Patches) -> list[tuple[float, Prepared]]:
    """All patches that can be drawn, with their probabilities."""
    chances = start_chances(whole, patches)
    return [(float(chances[at]), cut_patch(whole, patches, at)) for at in product(*map(range, chances.shape))]


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
    trace = pyro.poutine.trace(model).get_trace(batch.image, batch.label, total, batch.weight, batch.voxels)
    return trace.log_prob_sum(lambda name, site: name == "label").item()


@pytest.mark.parametrize("patches", WAYS)
@pytest.mark.parametrize("likelihood", [Categorical(0.3), DiceCrossEntropy(0.3, dice_weight=0)], ids=["labels", "mean"])
def test_the_expected_data_term_of_a_patch_is_that_of_the_whole_case(patches, likelihood):
    found = sum(chance * data_term(likelihood, patch, total=7) for chance, patch in every_patch(case(), patches))
    assert found == pytest.approx(data_term(likelihood, case(), total=7), rel=1e-5)


@pytest.mark.parametrize("patches", WAYS)
def test_the_expected_gradient_of_the_data_term_is_that_of_the_whole_case(patches):
    def gradient(scan: Prepared) -> Tensor:
        weights = torch.ones(3, 2, 1, 1, 1, requires_grad=True)
        batch = stack([scan])
        logits = nn.functional.conv3d(batch.image, weights)
        return torch.autograd.grad(VoxelCategorical(logits, batch.weight).log_prob(batch.label).sum(), weights)[0]

    found = sum(chance * gradient(patch) for chance, patch in every_patch(case(), patches))
    torch.testing.assert_close(found, gradient(case()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("patches", WAYS)
def test_any_weighted_sum_is_unbiased_and_the_weights_add_up_to_the_voxels(patches):
    found, whole = every_patch(case(), patches), case()
    sums = sum(chance * (patch.image * patch.weight).sum((1, 2, 3)) for chance, patch in found)
    torch.testing.assert_close(sums, whole.image.sum((1, 2, 3)), rtol=1e-4, atol=1e-4)
    assert sum(chance for chance, _ in found) == pytest.approx(1)
    assert sum(chance * float(patch.weight.sum()) for chance, patch in found) == pytest.approx(
        whole.label.numel(), rel=1e-5
    )


def test_the_weight_of_a_voxel_is_one_over_the_chance_that_it_is_in_the_patch():
    whole, patches = case((19, 5, 7)), Patches((16, 3, 4))
    image = torch.arange(whole.label.numel()).reshape(1, *whole.label.shape)
    whole = Prepared("a", image, whole.label, np.eye(4), whole.shape, whole.box)
    found, chances = every_patch(whole, patches), torch.zeros(whole.label.numel(), dtype=torch.float64)
    for chance, patch in found:
        chances[patch.image.flatten()] += chance
    for _, patch in found:
        torch.testing.assert_close(patch.weight.flatten(), 1 / chances[patch.image.flatten()].float())


def test_foreground_is_sought_class_by_class_in_proportion_to_its_voxels():
    label = torch.zeros(9, 1, 1, dtype=torch.int64)
    label[0], label[7:] = 1, 2  # starts 0 to 6 of patches of three voxels
    whole = Prepared("a", label[None].float(), label, np.eye(4), (9, 1, 1), ((0, 9), (0, 1), (0, 1)))
    even, mixed = (start_chances(whole, Patches((3, 1, 1), balance)).flatten() for balance in (0.0, 0.6))
    foreground = torch.tensor([1 / 2, 0, 0, 0, 0, 1 / 6, 2 / 6], dtype=torch.float64)
    torch.testing.assert_close(even, torch.tensor([3, 1, 1, 1, 1, 1, 3], dtype=torch.float64) / 11)
    torch.testing.assert_close(mixed, 0.4 * even + 0.6 * foreground)
    empty = Prepared("b", whole.image, torch.zeros_like(label), np.eye(4), (9, 1, 1), whole.box)
    torch.testing.assert_close(start_chances(empty, Patches((3, 1, 1), 0.6)).flatten(), even)


@pytest.mark.parametrize(
    ("voxels", "edge"), [(n, p) for n in (1, 2, 9, 100, 700) for p in (1, 2, 3, 8, 60, 96, 700) if p <= n]
)
def test_starts_reach_both_ends_and_leave_no_voxel_out(voxels, edge):
    starts = patch_starts(voxels, edge).tolist()
    assert (starts[0], starts[-1]) == (0, voxels - edge)
    assert all(0 < second - first <= edge for first, second in pairwise(starts))
    assert len(starts) <= max(66, voxels // edge + 1)


def test_a_patch_is_a_part_of_its_case_and_a_patch_of_its_size_is_the_case():
    whole, patches = case((5, 6, 4)), Patches((3, 2, 9))
    patch = cut_patch(whole, patches, (1, 0, 0))
    assert torch.equal(patch.image, whole.image[:, 1:4, :2])
    assert torch.equal(patch.label, whole.label[1:4, :2])
    assert patch.voxels == 120
    same = draw_patch(whole, Patches((5, 8, 4)))
    assert torch.equal(same.image, whole.image)
    assert torch.equal(same.weight, torch.ones(5, 6, 4))
    assert draw_patch(whole, Patches()) is whole


def test_starts_are_drawn_with_their_chances_and_follow_torchs_global_generator():
    torch.manual_seed(0)
    whole, patches, draws = case((5, 1, 1)), Patches((3, 1, 1)), 4000
    starts = [
        int((whole.image[0, :, 0, 0] == draw_patch(whole, patches).image[0, 0, 0, 0]).nonzero()) for _ in range(draws)
    ]
    chances = start_chances(whole, patches).flatten()
    assert_mean(nn.functional.one_hot(torch.tensor(starts), 3).double(), chances, within=0.03)
    state = torch.random.get_rng_state()
    first = draw_patch(case((9, 9, 9)), Patches((2, 2, 2)))
    torch.random.set_rng_state(state)
    assert torch.equal(first.image, draw_patch(case((9, 9, 9)), Patches((2, 2, 2))).image)


def test_patches_of_cases_of_different_grids_make_a_batch():
    batch = stack([draw_patch(case(grid), Patches((3, 3, 2))) for grid in [(4, 3, 2), (9, 5, 3)]])
    assert batch.weight.shape == batch.label.shape == (2, 3, 3, 2)
    assert batch.voxels.tolist() == [24, 135]


def test_a_patch_is_cut_before_it_is_augmented_and_its_weights_move_with_its_labels():
    label = torch.zeros(24, 8, 8, dtype=torch.int64)
    label[:9] = 1
    whole = Prepared("a", label[None].float(), label, np.eye(4), (24, 8, 8), ((0, 24), (0, 8), (0, 8)))
    torch.manual_seed(0)
    flip, patches = Augment(flip=1, rotation=0, zoom=0, shift=0, contrast=0, brightness=0), Patches((16, 8, 8))
    state = torch.random.get_rng_state()
    plain = minibatch([whole], torch.tensor([0]), None, patches)
    torch.random.set_rng_state(state)
    flipped = minibatch([whole], torch.tensor([0]), flip, patches)
    assert plain.weight.unique().numel() > 1
    torch.testing.assert_close(flipped.weight, plain.weight.flip(1))
    assert torch.equal(flipped.label, plain.label.flip(1))
    moved = minibatch([whole], torch.tensor([0]), Augment(), patches)
    assert set(moved.weight.unique().tolist()) <= {*draw_weights(whole, patches)}


def draw_weights(whole: Prepared, patches: Patches) -> set[float]:
    """Every weight that a voxel of a case can have."""
    return {weight for _, patch in every_patch(whole, patches) for weight in patch.weight.unique().tolist()}


def test_a_patch_that_could_lie_at_too_many_places_is_refused_in_one_sentence():
    label = torch.zeros(1, dtype=torch.uint8).expand(300, 300, 300)
    whole = Prepared("a", label[None].float(), label, np.eye(4), (300,) * 3, ((0, 300),) * 3)
    with refuses("a", "2**24", "larger", error=ConfigError):
        draw_patch(whole, Patches((1, 1, 1)))


@pytest.mark.parametrize(
    "wrong", [{"balance": 1.0}, {"balance": -0.1}, {"patch": (0, 8, 8)}, {"balance": float("nan")}]
)
def test_impossible_settings_are_refused(wrong):
    with refuses("Patches", *wrong, error=ConfigError):
        Patches(**wrong)
