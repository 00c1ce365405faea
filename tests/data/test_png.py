"""PNG images: their place in a volume, round trips, and every way in which a file can be wrong."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pyro_dwp.data import FolderPairs, Preprocess, Scan, read_label, read_scan, scan_files, write_png
from pyro_dwp.predict import Prediction, score_folders, write_prediction
from tests.helpers.refusal import refuses

ROWS, COLUMNS = 6, 9
RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(1, 255, (ROWS, COLUMNS), dtype=np.uint8)
DEEP = RANDOM.integers(256, 65535, (ROWS, COLUMNS), dtype=np.uint16)
COLOUR = RANDOM.integers(1, 255, (ROWS, COLUMNS, 3), dtype=np.uint8)
OPAQUE = np.full((ROWS, COLUMNS, 1), 255, np.uint8)
CLASSES = RANDOM.integers(0, 4, (ROWS, COLUMNS), dtype=np.uint8)


def save(path: Path, pixels: np.ndarray, palette: bool = False) -> Path:
    """Write pixels (rows, columns, ...) with Pillow alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    if palette:
        image.putpalette([7, 7, 7, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.save(path)
    return path


def bits(path: Path) -> int:
    """Return the bits of a channel of a pixel, which follow the size in the header."""
    return path.read_bytes()[24]


@pytest.mark.parametrize(
    ("pixels", "channels"),
    [
        (GREY, GREY[..., None]),
        (DEEP, DEEP[..., None]),
        (COLOUR, COLOUR),
        (CLASSES > 1, (CLASSES > 1)[..., None]),
        (np.concatenate([COLOUR, OPAQUE], 2), COLOUR),
        (np.concatenate([GREY[..., None], OPAQUE], 2), GREY[..., None]),
    ],
    ids=["8 bits", "16 bits", "RGB", "1 bit", "RGBA", "LA"],
)
def test_columns_run_to_the_right_and_rows_upwards_and_colours_are_channels(tmp_path, pixels, channels) -> None:
    scan = read_scan("a", [save(tmp_path / "a.png", pixels)])
    assert scan.shape == (COLUMNS, ROWS, 1)
    assert scan.spacing == (1, 1, 1)
    for row, column in ((0, 0), (2, 5), (ROWS - 1, 0)):
        np.testing.assert_array_equal(scan.image[:, column, ROWS - 1 - row, 0], channels[row, column])


@pytest.mark.parametrize(
    ("pixels", "palette"), [(CLASSES, False), (CLASSES, True), (DEEP % 300, False), (CLASSES > 1, False)]
)
def test_labels_are_grey_values_or_indices_of_a_palette_and_come_back_as_the_same_pixels(tmp_path, pixels, palette):
    label = read_label(save(tmp_path / "a.png", pixels, palette))
    assert label.dtype == torch.int64
    written = write_png(tmp_path / "new" / "case.1_mask", label, tmp_path / "a.png")
    assert written.name == "case.1_mask.png"
    np.testing.assert_array_equal(np.asarray(Image.open(written)), pixels)
    assert bits(written) == (16 if pixels.max() > 255 else 8)


def test_a_folder_of_slices_is_a_volume_in_the_natural_order_of_their_names(tmp_path) -> None:
    for number in range(1, 12):
        save(tmp_path / "images" / "a" / f"{number}.png", GREY // 2 + number)
        save(tmp_path / "labels" / "a" / f"s{number:03d}.PNG", np.full_like(GREY, number))
    source = FolderPairs(str(tmp_path / "images"), str(tmp_path / "labels"))
    assert source.names() == ["a"]
    scan = source.load("a")
    assert scan.label[0, 0].tolist() == [*range(1, 12)]
    assert (scan.image[0].diff(dim=-1) == 1).all()
    written = write_png(tmp_path / "a_mask", scan.image[0].long(), scan.origin.images[0])
    assert sorted(path.name for path in written.iterdir()) == sorted(f"{number}.png" for number in range(1, 12))
    assert torch.equal(read_label(written).float(), scan.image[0])


def predicted(folder: Path, scan: Scan, classes: int = 3) -> tuple[Prediction, dict[str, Path]]:
    probability = torch.rand(classes, *scan.shape, generator=torch.Generator().manual_seed(0)).softmax(0)
    entropy = -(probability * probability.log()).sum(0)
    prediction = Prediction(probability, entropy, 0.5 * entropy)
    return prediction, write_prediction(folder, prediction, scan, Preprocess())


@pytest.mark.parametrize("stack", [False, True])
def test_masks_lie_on_the_pixels_of_their_image_and_maps_are_shares_of_the_largest_value(tmp_path, stack) -> None:
    path = save(tmp_path / ("a/0.png" if stack else "a.png"), GREY)
    scan = read_scan("a", [path.parent if stack else path])
    prediction, paths = predicted(tmp_path / "maps", scan)
    assert paths["mask"] == tmp_path / "maps" / ("a_mask" if stack else "a_mask.png")
    largest = {"probability_1": 1, "probability_2": 1, "entropy": np.log(3), "mutual_information": np.log(3)}
    expected = [*prediction.probability[1:], prediction.entropy, prediction.mutual_information]
    for (name, most), values in zip(largest.items(), expected, strict=True):
        file = paths[name] / "0.png" if stack else paths[name]
        pixels = np.asarray(Image.open(file))
        assert bits(file) == 16
        np.testing.assert_allclose(pixels[::-1].T[..., None] / 65535 * most, values, atol=0.5 * most / 65535 + 1e-6)
    mask = np.asarray(Image.open(paths["mask"] / "0.png" if stack else paths["mask"]))
    np.testing.assert_array_equal(mask[::-1].T, prediction.mask[..., 0])


def test_a_map_without_bright_pixels_is_stored_in_as_many_bits_as_any_other(tmp_path) -> None:
    scan = read_scan("a", [save(tmp_path / "a.png", GREY)])
    dark = torch.zeros(scan.shape)
    prediction = Prediction(torch.stack([1 - dark, dark + 1e-3]), dark, dark)
    paths = write_prediction(tmp_path / "maps", prediction, scan, Preprocess())
    assert [bits(paths[name]) for name in ("mask", "probability", "entropy")] == [8, 16, 16]


def test_predicted_folders_of_png_are_scored_as_their_arrays_are(tmp_path) -> None:
    scan = read_scan("a", [save(tmp_path / "a.png", GREY)])
    prediction, _ = predicted(tmp_path / "maps", scan)
    save(tmp_path / "truths" / "a.png", np.ascontiguousarray(prediction.mask[..., 0].numpy().astype(np.uint8).T[::-1]))
    assert score_folders(tmp_path / "maps", tmp_path / "truths").table.mean()["dice"] == 1
    save(tmp_path / "truths" / "a.png", CLASSES % 3)
    assert score_folders(tmp_path / "maps", tmp_path / "truths").table.mean()["dice"] < 0.9


def test_a_folder_holds_scans_of_one_kind_and_png_beside_nifti_are_pictures(tmp_path, write) -> None:
    save(tmp_path / "b.png", GREY)
    save(tmp_path / "stack" / "0.png", GREY)
    assert [*scan_files(tmp_path)] == ["b"]
    write(tmp_path / "a.nii.gz")
    assert [*scan_files(tmp_path)] == ["a"]
    assert FolderPairs(str(tmp_path / "b.png")).names() == ["b"]


def test_other_formats_are_refused_with_the_cure(tmp_path) -> None:
    save(tmp_path / "a.jpg", GREY)
    save(tmp_path / "false.png", GREY)
    with refuses("a.jpg", "PNG", "convert"):
        read_scan("a", [tmp_path / "a.jpg"])
    (tmp_path / "a.jpg").rename(tmp_path / "false.png")
    with refuses("false.png", "another format"):
        read_scan("a", [tmp_path / "false.png"])
    (tmp_path / "false.png").rename(tmp_path / "a.jpeg")
    with refuses(str(tmp_path), "1 such as a.jpeg", "PNG"):
        scan_files(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9])
def test_a_truncated_file_is_refused(tmp_path, share) -> None:
    path = save(tmp_path / "a.png", RANDOM.integers(0, 255, (60, 60), dtype=np.uint8))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    for read in (lambda: read_scan("a", [path]), lambda: read_label(path)):
        with refuses(str(path), "cannot be read", "truncated"):
            read()


HALF = OPAQUE.copy()
HALF[0, 0] = 3


@pytest.mark.parametrize(
    ("image", "label", "tokens"),
    [
        (np.concatenate([COLOUR, HALF], 2), None, ["image.png", "transparent in places"]),
        ("palette", None, ["image.png", "greyscale or RGB", "'P'"]),
        (np.full_like(GREY, 9), None, ["image.png", "constant", "is 9"]),
        (GREY, COLOUR, ["label.png", "greyscale or palette", "'RGB'"]),
        (GREY, CLASSES[1:], ["label.png", f"({COLUMNS}, {ROWS}, 1)", f"({COLUMNS}, {ROWS - 1}, 1)"]),
    ],
)
def test_images_and_labels_that_cannot_be_used_are_refused(tmp_path, image, label, tokens) -> None:
    palette = isinstance(image, str)
    first = save(tmp_path / "image.png", CLASSES if palette else image, palette)
    second = None if label is None else save(tmp_path / "label.png", label)
    with refuses(*tokens):
        read_scan("a", [first], second)


def test_slices_of_different_size_or_colour_are_refused_and_labels_that_a_png_cannot_hold(tmp_path) -> None:
    save(tmp_path / "a" / "0.png", GREY)
    for pixels, token in ((GREY[1:], "9 x 5 pixels"), (COLOUR, "3 channel(s)")):
        path = save(tmp_path / "a" / "1.png", pixels)
        with refuses(str(path), "0.png", "9 x 6 pixels", token):
            read_scan("a", [tmp_path / "a"])
    with refuses("65535", "70000", "label_map"):
        write_png(tmp_path / "m", torch.full((2, 2, 1), 70000), tmp_path / "b.png")


def test_an_image_is_not_resampled_to_several_slices(tmp_path) -> None:
    scan = read_scan("a", [save(tmp_path / "a.png", GREY)])
    assert Preprocess(grid=(8, 4, 1)).apply(scan).image.shape == (1, 8, 4, 1)
    with refuses(str(tmp_path / "a.png"), "[width, height, 1]", "network.ndim"):
        Preprocess(grid=(8, 4, 3)).apply(scan)
