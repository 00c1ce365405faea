import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pyro_dwp.data import Decathlon, Phantoms, Preprocess, Scan, check_labels
from pyro_dwp.errors import ConfigError, DataError


def dice(prediction: torch.Tensor, truth: torch.Tensor) -> float:
    return float(2 * (prediction & truth).sum() / (prediction.sum() + truth.sum()))


def restored_dice(preprocess: Preprocess, scan: Scan) -> float:
    """Return the Dice score of a network that is never wrong, on the scan's own grid."""
    prepared = preprocess.apply(scan)
    shares = F.one_hot(prepared.label, 2).movedim(-1, 0)
    return dice(preprocess.restore(shares, prepared, fill=(1, 0)).argmax(0) == 1, preprocess.mapped_label(scan) == 1)


def head(shape=(12, 14, 10), box=((3, 9), (2, 12), (1, 8)), label=None) -> Scan:
    """Return a scan whose head fills a box, in air of intensity 0."""
    image = torch.zeros(1, *shape)
    inside = tuple(slice(*edges) for edges in box)
    image[(0, *inside)] = torch.rand(image[(0, *inside)].shape, generator=torch.Generator().manual_seed(0)) + 1
    return Scan("head", image, label, np.diag([1.0, 2.0, 4.0, 1.0]))


def test_without_settings_only_the_air_is_cut_away() -> None:
    scan = head()
    prepared = Preprocess().apply(scan)
    assert prepared.box == ((3, 9), (2, 12), (1, 8))
    assert prepared.image.shape == (1, 6, 10, 7)


def test_the_air_stays_where_cropping_is_off() -> None:
    assert Preprocess(crop_to_head=False).apply(head()).image.shape == (1, 12, 14, 10)


@pytest.mark.parametrize("channel", [0, 1])
def test_the_head_is_where_any_channel_differs_from_0(channel) -> None:
    image = torch.zeros(2, 6, 6, 6)
    image[channel, 2:4, 2:4, 2:4] = -torch.rand(2, 2, 2) - 1
    image[1 - channel, 3, 3, 3] = 1.0
    assert Preprocess().apply(Scan("a", image, None, np.eye(4))).box == ((2, 4),) * 3


def test_each_channel_has_mean_0_and_variance_1_over_the_head_while_air_stays_dark() -> None:
    scan = head()
    scan = Scan("a", torch.cat([scan.image, 70 * scan.image + 5 * (scan.image > 0)]), None, scan.affine)
    image = Preprocess(crop_to_head=False).apply(scan).image
    tissue = image[:, scan.image[0] != 0]
    torch.testing.assert_close(tissue.mean(1), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(tissue.std(1, correction=0), torch.ones(2), atol=1e-5, rtol=0)
    assert (image[:, scan.image[0] == 0].amax(1) < tissue.amin(1)).all()


@pytest.mark.parametrize("preprocess", [Preprocess(crop_to_head=False), Preprocess(grid=(4, 4, 4))], ids=str)
def test_the_scan_itself_stays_as_it_is(preprocess) -> None:
    scan = head(label=torch.ones(12, 14, 10, dtype=torch.int64))
    image = scan.image.clone()
    preprocess.apply(scan)
    assert torch.equal(scan.image, image)
    assert (scan.label == 1).all()


def test_normalisation_does_not_depend_on_the_gain_of_the_scanner() -> None:
    scan, preprocess = head(), Preprocess(grid=(8, 8, 8))
    louder = Scan("a", 300 * scan.image, None, scan.affine)
    torch.testing.assert_close(preprocess.apply(scan).image, preprocess.apply(louder).image, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("grid", [(8, 8, 8), (3, 20, 5)])
def test_every_case_gets_the_grid(grid) -> None:
    prepared = Preprocess(grid=grid).apply(head(label=torch.ones(12, 14, 10, dtype=torch.int64)))
    assert prepared.image.shape == (1, *grid)
    assert prepared.label.shape == grid


def test_a_spacing_gives_the_number_of_voxels_that_fill_the_same_extent() -> None:
    prepared = Preprocess(spacing=(2.0, 2.0, 2.0)).apply(head())  # the head has 6x10x7 voxels of 1x2x4 mm
    assert prepared.image.shape == (1, 3, 10, 14)


def test_images_come_out_as_plain_tensors() -> None:
    prepared = Preprocess(grid=(4, 4, 4)).apply(head())
    assert type(prepared.image) is torch.Tensor
    assert prepared.image.dtype == torch.float32


@pytest.mark.parametrize(
    "preprocess", [Preprocess(), Preprocess(grid=(5, 24, 7)), Preprocess(spacing=(1.5, 1.5, 3.0))], ids=str
)
def test_a_linear_field_survives_the_way_there_and_back(preprocess) -> None:
    scan = head()
    i, j, k = torch.meshgrid(*(torch.arange(edge, dtype=torch.float32) for edge in scan.shape), indexing="ij")
    prepared = preprocess.apply(scan)
    centres = [
        (torch.arange(edge) + 0.5) * (stop - start) / edge + start - 0.5
        for edge, (start, stop) in zip(prepared.image.shape[1:], prepared.box, strict=True)
    ]
    there = torch.stack(torch.meshgrid(*centres, indexing="ij")).float()
    back = preprocess.restore(there, prepared, fill=-1.0)
    inner = tuple(slice(start + 2, stop - 2) for start, stop in prepared.box)
    torch.testing.assert_close(back[(slice(None), *inner)], torch.stack([i, j, k])[(slice(None), *inner)])


def test_outside_the_crop_the_fill_of_each_channel_is_found() -> None:
    prepared = Preprocess(grid=(4, 4, 4)).apply(head())
    restored = Preprocess(grid=(4, 4, 4)).restore(torch.full((2, 4, 4, 4), 0.5), prepared, fill=(1.0, 0.0))
    assert restored.shape == (2, 12, 14, 10)
    assert restored[:, 0, 0, 0].tolist() == [1.0, 0.0]
    assert restored[:, 5, 5, 5].tolist() == [0.5, 0.5]


def test_restored_probabilities_still_sum_to_one() -> None:
    preprocess = Preprocess(grid=(5, 6, 9))
    prepared = preprocess.apply(head())
    probability = torch.randn(3, 5, 6, 9).softmax(0)
    total = preprocess.restore(probability, prepared, fill=(1, 0, 0)).sum(0)
    torch.testing.assert_close(total, torch.ones(12, 14, 10))


@pytest.mark.parametrize(
    ("preprocess", "least"),
    [(Preprocess(), 1.0), (Preprocess(grid=(32, 32, 32)), 0.95), (Preprocess(grid=(20, 24, 22)), 0.85)],
    ids=["own grid", "finer", "coarser"],
)
def test_a_perfect_prediction_keeps_its_dice_on_the_scans_own_grid(preprocess, least) -> None:
    phantoms = Phantoms("tumour", cases=4, shape=(32, 32, 32))
    scores = [restored_dice(preprocess, phantoms.load(name)) for name in phantoms.names()]
    assert min(scores) >= least


@pytest.mark.data
def test_a_perfect_prediction_keeps_its_dice_on_real_hippocampi(real_data) -> None:
    source = Decathlon(str(real_data / "hippocampus"))
    preprocess = Preprocess(grid=(32, 48, 32), label_map={1: 1, 2: 1})
    assert min(restored_dice(preprocess, source.load(name)) for name in source.names()[:10]) > 0.93


def test_labels_take_the_class_with_the_largest_share() -> None:
    label = torch.zeros(8, 8, 8, dtype=torch.int64)
    label[:4], label[4:, :, :2] = 5, 3
    prepared = Preprocess(grid=(4, 4, 4)).apply(Scan("a", torch.rand(1, 8, 8, 8) + 1, label, np.eye(4)))
    assert (prepared.label[:2] == 5).all()
    assert (prepared.label[2:, :, 0] == 3).all()
    assert (prepared.label[2:, :, 1:] == 0).all()


def test_the_label_map_merges_classes() -> None:
    label = torch.tensor([0, 1, 2]).repeat(9).reshape(3, 3, 3)
    scan = Scan("a", torch.rand(1, 3, 3, 3) + 1, label, np.eye(4))
    assert torch.equal(Preprocess(label_map={1: 1, 2: 1}).mapped_label(scan), (label > 0).long())


def test_a_label_value_that_is_not_in_the_map_is_named_with_the_legal_ones() -> None:
    scan = Scan("case_7", torch.rand(1, 2, 2, 2) + 1, torch.tensor([0, 1, 2, 4]).repeat(2).reshape(2, 2, 2), np.eye(4))
    with pytest.raises(DataError, match=r"case_7 has the values \[0, 1, 2, 4\].*no class for \[4\].*\[0, 1, 2\]"):
        Preprocess(label_map={1: 1, 2: 1}).apply(scan)


def test_classes_that_the_network_does_not_have_are_refused() -> None:
    check_labels("a", torch.tensor([0, 1]), classes=2)
    with pytest.raises(DataError, match=r"2 classes, 0 to 1, but the label of case a has the values \[0, 2\]"):
        check_labels("a", torch.tensor([0, 2]), classes=2)


def test_a_scan_without_head_is_refused() -> None:
    with pytest.raises(DataError, match="no head to crop to"):
        Preprocess().apply(Scan("a", torch.zeros(1, 4, 4, 4), None, np.eye(4)))


def test_a_scan_of_two_intensities_stays_finite() -> None:
    image = torch.zeros(1, 6, 6, 6)
    image[:, 2:4] = 3.0
    assert Preprocess(crop_to_head=False).apply(Scan("a", image, None, np.eye(4))).image.isfinite().all()


@pytest.mark.parametrize(
    "settings",
    [
        {"grid": (8, 8, 8), "spacing": (1.0, 1.0, 1.0)},
        {"grid": (8, 0, 8)},
        {"grid": (8, 8)},
        {"spacing": (1.0, -1.0, 1.0)},
        {"label_map": {1: -1}},
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused(settings) -> None:
    with pytest.raises(ConfigError):
        Preprocess(**settings)
