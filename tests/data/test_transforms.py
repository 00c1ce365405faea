from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pyro_dwp.data import Decathlon, Phantoms, Preprocess, Scan, check_labels, labels_of_classes, map_labels
from pyro_dwp.errors import ConfigError
from tests.helpers.refusal import refuses

SHAPE, HEAD = (12, 14, 10), ((3, 9), (2, 12), (1, 8))
ONES = torch.ones(SHAPE, dtype=torch.int64)


def restored_dice(preprocess: Preprocess, scan: Scan) -> float:
    """Return the Dice score of a network that is never wrong, on the scan's own grid."""
    prepared = preprocess.apply(scan)
    shares = F.one_hot(prepared.label, 2).movedim(-1, 0)
    prediction = preprocess.restore(shares, prepared, fill=(1, 0)).argmax(0) == 1
    truth = preprocess.mapped_label(scan) == 1
    return float(2 * (prediction & truth).sum() / (prediction.sum() + truth.sum()))


def head(label=None) -> Scan:
    """Return a scan whose head fills a box, in air of intensity 0."""
    image = torch.zeros(1, *SHAPE)
    image[:, 3:9, 2:12, 1:8] = torch.rand(6, 10, 7, generator=torch.Generator().manual_seed(0)) + 1
    return Scan("head", image, label, np.diag([1.0, 2.0, 4.0, 1.0]))


def cube(label: torch.Tensor) -> Scan:
    return Scan("case_7", torch.rand(1, *label.shape) + 1, label, np.eye(4))


def test_only_air_where_all_channels_are_0_is_cut_away_and_it_may_stay() -> None:
    assert Preprocess().apply(head()).box == HEAD
    assert Preprocess().apply(head()).image.shape == (1, 6, 10, 7)
    assert Preprocess(crop_to_head=False).apply(head()).image.shape == (1, *SHAPE)
    image = torch.zeros(2, 6, 6, 6)
    image[0, 2:4, 2:4, 2:4], image[1, 3, 3, 3] = -torch.rand(2, 2, 2) - 1, 1.0
    for channels in (image, image.flip(0)):
        assert Preprocess().apply(Scan("a", channels, None, np.eye(4))).box == ((2, 4),) * 3


def test_each_channel_has_mean_0_and_variance_1_over_the_head_while_air_stays_dark() -> None:
    scan = head()
    scan = Scan("a", torch.cat([scan.image, 70 * scan.image + 5 * (scan.image > 0)]), None, scan.affine)
    image = Preprocess(crop_to_head=False).apply(scan).image
    tissue = image[:, scan.image[0] != 0]
    moments = torch.stack([tissue.mean(1), tissue.std(1, correction=0)])
    torch.testing.assert_close(moments, torch.tensor([[0.0, 0.0], [1.0, 1.0]]), atol=1e-5, rtol=0)
    assert (image[:, scan.image[0] == 0].amax(1) < tissue.amin(1)).all()
    scan.image.clamp_(max=0.5)  # a head of one intensity
    assert Preprocess(crop_to_head=False).apply(scan).image.isfinite().all()


@pytest.mark.parametrize("preprocess", [Preprocess(crop_to_head=False), Preprocess(grid=(4, 4, 4))], ids=str)
def test_the_scan_itself_stays_as_it_is_and_its_gain_does_not_matter(preprocess) -> None:
    scan, louder = head(label=ONES.clone()), Scan("a", 300 * head().image, None, np.eye(4))
    prepared = preprocess.apply(scan).image
    assert torch.equal(scan.image, head().image)
    assert (scan.label == 1).all()
    torch.testing.assert_close(preprocess.apply(louder).image, prepared, atol=1e-4, rtol=1e-4)


def test_every_case_gets_the_grid_or_the_spacing_as_plain_tensors() -> None:
    grid, spacing = {"grid": (3, 20, 5)}, {"spacing": (2.0, 2.0, 2.0)}  # the head has 6x10x7 voxels of 1x2x4 mm
    for settings, shape in ((grid, (3, 20, 5)), (spacing, (3, 10, 14))):
        prepared = Preprocess(**settings).apply(head(label=ONES))
        assert (prepared.image.shape, prepared.label.shape) == ((1, *shape), shape)
        assert (type(prepared.image), prepared.image.dtype) == (torch.Tensor, torch.float32)


@pytest.mark.parametrize("settings", [{}, {"grid": (5, 24, 7)}, {"spacing": (1.5, 1.5, 3.0)}], ids=str)
def test_a_linear_field_survives_the_way_there_and_back(settings) -> None:
    scan, preprocess = head(), Preprocess(**settings)
    prepared = preprocess.apply(scan)
    edges = zip(prepared.image.shape[1:], prepared.box, strict=True)
    centres = [(torch.arange(edge) + 0.5) * (stop - start) / edge + start - 0.5 for edge, (start, stop) in edges]
    there = torch.stack(torch.meshgrid(*centres, indexing="ij"))
    inner = (slice(None), *(slice(start + 2, stop - 2) for start, stop in prepared.box))
    places = torch.stack(torch.meshgrid(*map(torch.arange, scan.shape), indexing="ij")).float()
    torch.testing.assert_close(preprocess.restore(there, prepared, fill=-1.0)[inner], places[inner])


def test_outside_the_crop_the_fill_of_each_channel_is_found_and_probabilities_sum_to_one() -> None:
    preprocess = Preprocess(grid=(4, 6, 9))
    prepared = preprocess.apply(head())
    restored = preprocess.restore(torch.randn(3, 4, 6, 9).softmax(0), prepared, fill=(1, 0, 0))
    assert restored[:, 0, 0, 0].tolist() == [1.0, 0.0, 0.0]
    assert restored[0, 5, 5, 5] < 1
    torch.testing.assert_close(restored.sum(0), torch.ones(SHAPE))


@pytest.mark.parametrize(("grid", "least"), [(None, 1.0), ((32, 32, 32), 0.95), ((20, 24, 22), 0.85)], ids=str)
def test_a_perfect_prediction_keeps_its_dice_on_the_scans_own_grid(grid, least) -> None:
    phantoms = Phantoms("tumour", cases=4, shape=(32, 32, 32))
    assert min(restored_dice(Preprocess(grid=grid), phantoms.load(name)) for name in phantoms.names()) >= least


@pytest.mark.data
def test_a_perfect_prediction_keeps_its_dice_on_real_hippocampi(real_data) -> None:
    source = Decathlon(str(real_data / "hippocampus"))
    preprocess = Preprocess(grid=(32, 48, 32), label_map={1: 1, 2: 1})
    assert min(restored_dice(preprocess, source.load(name)) for name in source.names()[:10]) > 0.93


def test_labels_take_the_class_with_the_largest_share_and_a_lost_class_is_told() -> None:
    label = torch.zeros(8, 8, 8, dtype=torch.int64)
    label[:4], label[4:, :, :2], label[7, 7, 7] = 5, 3, 2
    prepared = Preprocess(grid=(4, 4, 4)).apply(cube(label))
    parts = prepared.label[:2], prepared.label[2:, :, 0], prepared.label[2:, :, 1:]
    assert ([part.unique().tolist() for part in parts], prepared.lost) == ([[5], [3], [0]], (2,))


def test_the_label_map_merges_classes_or_can_be_inverted() -> None:
    label = torch.tensor([0, 1, 2]).repeat(9).reshape(3, 3, 3)
    assert torch.equal(Preprocess(label_map={1: 1, 2: 1}).mapped_label(cube(label)), (label > 0).long())
    inverse = labels_of_classes({1: 2, 2: 1}, 3)
    assert torch.equal(torch.tensor(inverse)[map_labels(label, {1: 2, 2: 1}, "a")], label)
    cases = [(None, 3), ({1: 1, 4: 2}, 3), ({1: 1, 2: 1}, 2), ({1: 0, 2: 1}, 2), ({1: 1}, 3)]
    assert [labels_of_classes(*case) for case in cases] == [[0, 1, 2], [0, 1, 4], None, None, None]


def test_labels_are_checked_before_they_are_resampled() -> None:
    label = torch.zeros(8, 8, 8, dtype=torch.int64)
    label[0, 0, 0] = 255
    check_labels(torch.tensor([0, 1]), 2, "a")
    with refuses("case case_7", "2 classes", "[0, 255]", "label_map"):
        Preprocess(grid=(2, 2, 2)).apply(cube(label), classes=2)
    with refuses("case case_7", "[255]", "[0, 1, 2]", "label_map"):
        Preprocess(grid=(2, 2, 2), label_map={1: 1, 2: 1}).apply(cube(label))


BAD = [(0, None, "no head"), (1.6e38, None, "overflows")]
BAD += [(1, (edge, 0.005, 0.01), "preprocess.spacing") for edge in (1e-300, 1e-4, 2e-3)]


@pytest.mark.parametrize(("gain", "spacing", "token"), BAD)
def test_scans_that_cannot_be_prepared_are_refused(gain, spacing, token) -> None:
    scan = head()
    scan.image.mul_(gain)
    with refuses("case head", token):
        Preprocess(spacing=spacing).apply(scan)


NAN, INF = float("nan"), float("inf")
SETTINGS = [
    *({"grid": grid} for grid in [(8, 0, 8), (8, 8), 64, (8, 8, 4097), (4096, 4096, 4096), (8.5, 8, 8), (8, 8, True)]),
    *({"spacing": (1.0, edge, 1.0)} for edge in (-1.0, 0.0, NAN, INF)),
    *({"label_map": labels} for labels in [{1: -1}, {-1: 1}, {1.5: 1}, {1: 1000}, {0: 1}, "1:1", {"one": 1}, {1: NAN}]),
    {"grid": (8, 8, 8), "spacing": (1.0, 1.0, 1.0)},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_settings_that_cannot_work_are_refused(settings) -> None:
    with refuses(*settings, error=ConfigError):
        Preprocess(**settings)


def test_ct_is_cropped_to_the_body_and_normalised_over_it():
    noise = torch.randn(1, 20, 22, 12)
    image = -1000 + 8 * noise
    image[:, 4:16, 5:18, 1:11] = 40 + 20 * noise[:, 4:16, 5:18, 1:11]
    scan = Scan("a", image, None, np.eye(4))
    assert Preprocess().box(scan) == ((4, 16), (5, 18), (1, 11))
    body = Preprocess(crop_to_head=False).apply(scan).image[:, 4:16, 5:18, 1:11]
    assert float(body.mean()) == pytest.approx(0, abs=1e-4)
    assert float(body.std(correction=0)) == pytest.approx(1, abs=1e-4)
    assert Preprocess().box(replace(scan, image=(image - image.mean()) / image.std())) == ((0, 20), (0, 22), (0, 12))
