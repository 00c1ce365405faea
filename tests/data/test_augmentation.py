"""Random variations of training cases: what they keep, what undoes them, and that one seed gives one variation."""

import math

import numpy as np
import pytest
import torch
from monai.transforms import Affine, Compose, Flip
from torch import Tensor

from pyro_dwp.data import Augment
from pyro_dwp.data.augmentation import Move
from pyro_dwp.data.transforms import Prepared
from pyro_dwp.errors import ConfigError
from tests.helpers.refusal import refuses

NOTHING = {"flip": 0.0, "rotation": 0.0, "zoom": 0.0, "shift": 0.0, "contrast": 0.0, "brightness": 0.0}
GRIDS = [(12, 10, 6), (16, 14, 1)]


def case(grid: tuple[int, int, int], channels: int = 2) -> Prepared:
    image = torch.randn(channels, *grid)
    return Prepared("a", image, (image[0] > 0).long(), np.eye(4), grid, ((0, 1),) * 3)


@pytest.mark.parametrize("grid", GRIDS)
def test_ranges_of_zero_change_nothing(grid):
    given = case(grid)
    varied = Augment(**NOTHING)(given)
    torch.testing.assert_close(varied.image, given.image, atol=1e-5, rtol=0)
    assert torch.equal(varied.label, given.label)


@pytest.mark.parametrize("grid", GRIDS)
def test_one_state_of_torch_gives_one_variation_and_the_next_another(grid):
    given, augment = case(grid), Augment()
    torch.manual_seed(1)
    first, second = augment(given), augment(given)
    torch.manual_seed(1)
    again = Augment()(given)
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.label, again.label)
    assert not torch.equal(first.image, second.image)


@pytest.mark.parametrize("grid", GRIDS)
def test_a_certain_flip_exchanges_left_and_right(grid):
    given = case(grid)
    varied = Augment(**{**NOTHING, "flip": 1.0})(given)
    torch.testing.assert_close(varied.image, given.image.flip(1), atol=1e-5, rtol=0)
    assert torch.equal(varied.label, given.label.flip(0))


def monais(volume: Tensor, flip: bool, angle: float, zoom: list[float], shift: list[float], mode: str) -> Tensor:
    """Return a moved volume by trilinear interpolation in one go, as MONAI computes it."""
    pose = Affine((0, 0, angle), None, shift, zoom, mode=mode, padding_mode="border", image_only=True)
    return Compose([*([Flip(0)] if flip else []), pose])(volume).as_tensor()


@pytest.mark.parametrize("grid", [(12, 10, 6), (7, 15, 8), (16, 14, 1)])
@pytest.mark.parametrize("flip", [False, True])
def test_slices_and_heights_moved_apart_are_monais_volumes_moved_at_once(grid, flip):
    angle, zoom, shift = 0.4, [1.1, 0.85, 0.93], [1.2, -0.7, 0.3]
    move = Move(grid, flip, angle, zoom, shift, torch.device("cpu"))
    image, label = torch.randn(3, *grid), torch.randint(5, (1, *grid)).float()
    moved = monais(image, flip, angle, zoom, shift, "bilinear")
    torch.testing.assert_close(move.linear(image), moved, atol=1e-4, rtol=0)
    same = move.nearest(label) == monais(label, flip, angle, zoom, shift, "nearest")
    assert same.float().mean() > 0.995  # some voxels lie halfway between two


def test_a_variation_draws_each_number_evenly_from_its_range(monkeypatch):
    drawn = []
    monkeypatch.setattr("pyro_dwp.data.augmentation.Move", lambda *pose: drawn.append(pose) or Move(*pose))
    given, augment = case((12, 10, 6)), Augment(flip=0.25)
    for _ in range(400):
        augment(given)
    flips = np.array([pose[1] for pose in drawn])
    assert abs(flips.mean() - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 400)
    values = np.array([[pose[2], *pose[3], *pose[4]] for pose in drawn])
    middle, reach = [0, 1, 1, 1, 0, 0, 0], np.array([math.radians(15), 0.15, 0.15, 0.15, 0.6, 0.5, 0.3])
    ways = (values - middle) / reach
    assert abs(ways).max() <= 1
    np.testing.assert_allclose(ways.mean(0), 0, atol=4 / math.sqrt(3 * 400))
    np.testing.assert_allclose(ways.var(0), 1 / 3, atol=4 * math.sqrt(4 / 45 / 400))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_varies_a_case_as_a_cpu_does():
    given, varied = case((24, 20, 12)), []
    for device in ("cpu", "cuda"):
        torch.manual_seed(1)
        varied.append(Augment()(given.to(device)).to("cpu"))
    torch.testing.assert_close(varied[0].image, varied[1].image, atol=1e-4, rtol=0)
    assert (varied[0].label == varied[1].label).float().mean() > 0.99


def test_image_and_label_move_together():
    grid = (24, 24, 8)
    label = torch.zeros(grid, dtype=torch.int64)
    label[8:16, 6:14, 2:6] = 1
    given = Prepared("a", 4.0 * label[None].float(), label, np.eye(4), grid, ((0, 1),) * 3)
    for _ in range(5):
        varied = Augment(contrast=0, brightness=0)(given)
        overlap = ((varied.image[0] > 2) == (varied.label == 1)).float().mean()
        assert overlap > 0.97  # linear and nearest interpolation differ at the surface alone


def test_intensities_change_by_an_affine_function_within_the_ranges():
    given = case((8, 8, 8))
    augment = Augment(**{**NOTHING, "contrast": 0.2, "brightness": 0.5})
    for _ in range(20):
        varied = augment(given)
        for before, after in zip(given.image.flatten(1), varied.image.flatten(1), strict=True):
            design = torch.stack([before, torch.ones_like(before)], 1)
            scale, offset = torch.linalg.lstsq(design, after[:, None]).solution.flatten().tolist()
            assert abs(scale - 1) <= 0.2 + 1e-4
            assert abs(offset) <= 0.5 + 1e-4
            torch.testing.assert_close(scale * before + offset, after, atol=1e-4, rtol=0)


def test_a_slice_is_never_mixed_with_another_by_rotation():
    grid = (16, 16, 4)
    image = torch.arange(4.0).expand(grid)[None].clone()
    given = Prepared("a", image, image[0].long(), np.eye(4), grid, ((0, 1),) * 3)
    varied = Augment(**{**NOTHING, "rotation": 90.0})(given)
    torch.testing.assert_close(varied.image, image, atol=1e-4, rtol=0)


@pytest.mark.parametrize("wrong", [{"flip": 1.5}, {"rotation": -1.0}, {"zoom": 1.0}, {"brightness": float("nan")}])
def test_a_range_out_of_bounds_is_named(wrong):
    with refuses("Augment", *wrong, error=ConfigError):
        Augment(**wrong)
