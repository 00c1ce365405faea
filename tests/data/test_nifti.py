"""NIfTI files: round trips, orientation, and every way in which a file can be wrong."""

import gzip
import tracemalloc
from pathlib import Path
from unittest.mock import Mock

import nibabel as nib
import numpy as np
import pytest
import torch

from pyro_dwp.data import Preprocess, read_scan, write_volume
from tests.helpers.refusal import refuses


def turned(degrees: float) -> np.ndarray:
    """Return the affine of a turn about the third axis."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])


AFFINES = {
    "plain": np.diag([1.0, 2.0, 3.0, 1.0]),
    "flipped": np.array([[-0.9, 0, 0, 80], [0, 1.1, 0, -70], [0, 0, -5.0, 30], [0, 0, 0, 1]]),
    "permuted": np.array([[0, 0, 2.0, 1], [-1.5, 0, 0, 2], [0, 1.0, 0, 3], [0, 0, 0, 1]]),
    "rotated": turned(20) @ np.array([[1, 0, 0, -9], [0, 2, 0, 8], [0, 0, 3, 7], [0, 0, 0, 1]]),
    "sheared": np.array([[1, 0.3, 0, 4.0], [0, 1, 0.2, 5], [0, 0, 2, 6], [0, 0, 0, 1]]),
}
NUDGE = np.diag([1e-6, -1e-6, 0, 0])
VOLUME = np.random.default_rng(0).uniform(1, 9, (6, 7, 5)).astype(np.float32)


def reordered(volume: np.ndarray, codes: str) -> nib.Nifti1Image:
    """Return the same voxels at the same places in mm, stored along other axes."""
    image = nib.Nifti1Image(volume, AFFINES["rotated"])
    start = nib.orientations.io_orientation(image.affine)
    return image.as_reoriented(nib.orientations.ornt_transform(start, nib.orientations.axcodes2ornt(codes)))


@pytest.mark.parametrize("name", AFFINES)
def test_a_volume_comes_back_from_disk_voxel_by_voxel_at_its_place_in_mm(tmp_path: Path, name: str) -> None:
    affine, volume = AFFINES[name], torch.randn(5, 4, 3)
    header = nib.load(write_volume(tmp_path / "new" / "a.nii.gz", volume, affine)).header
    assert header.get_xyzt_units()[0] == "mm"
    assert header["qform_code"] == (0 if name == "sheared" else 1)
    np.testing.assert_allclose(header.get_sform(), affine, atol=1e-5)
    np.testing.assert_allclose(header.get_qform(), affine, atol=1e9 if name == "sheared" else 1e-4)
    scan = read_scan("a", [tmp_path / "new" / "a.nii.gz"])
    assert nib.aff2axcodes(scan.affine) == ("R", "A", "S")
    np.testing.assert_allclose(sorted(scan.spacing), sorted(np.linalg.norm(affine[:3, :3], axis=0)), rtol=1e-5)
    again = nib.load(write_volume(tmp_path / "b.nii.gz", scan.image[0], scan.affine, np.float32, scan.origin.header))
    np.testing.assert_array_equal(again.get_fdata(dtype=np.float32), volume)
    np.testing.assert_allclose(again.affine, affine, atol=1e-5)


@pytest.mark.parametrize("codes", [(1, 4), (4, 0), (0, 2), (0, 0), (2, 3)], ids=str)
@pytest.mark.parametrize("unit", ["mm", "micron", "meter", "unknown"])
def test_a_result_has_the_header_of_its_scan_and_the_scan_is_in_mm(tmp_path: Path, codes, unit) -> None:
    size = {"micron": 1000.0, "meter": 0.001}.get(unit, 1.0)
    stored = np.diag([size, size, size, 1.0]) @ AFFINES["permuted"]
    image = nib.Nifti1Image(np.random.rand(5, 4, 3).astype(np.float32), stored)
    image.set_qform(stored if codes[0] else None, codes[0])
    image.set_sform(stored if codes[1] else None, codes[1])
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "a.nii.gz")
    scan = read_scan("a", [tmp_path / "a.nii.gz"])
    np.testing.assert_allclose(sorted(scan.spacing), [1.0, 1.5, 2.0], rtol=1e-5)
    written = write_volume(tmp_path / "m.nii.gz", scan.image[0] > 0.5, scan.affine, np.uint8, scan.origin.header)
    before, after = nib.load(tmp_path / "a.nii.gz").header, nib.load(written).header
    for field in ("qform_code", "sform_code", "srow_x", "srow_y", "srow_z", "quatern_b", "qoffset_x", "pixdim", "dim"):
        np.testing.assert_array_equal(before[field], after[field])
    assert after.get_xyzt_units()[0] == unit


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SRA", "ALI"])
def test_copies_along_other_axes_are_prepared_to_the_same_tensors(tmp_path: Path, codes: str) -> None:
    image, other, label = (tmp_path / f"{name}.nii.gz" for name in ("image", "other", "label"))
    nib.save(reordered(VOLUME, "RAS"), other)
    scans = []
    for order, label_order in (("RAS", "RAS"), (codes, "RAS"), (codes, codes)):
        nib.save(reordered(VOLUME, order), image)
        nib.save(reordered((VOLUME > 5).astype(np.uint8), label_order), label)
        scans.append(read_scan("a", [image, other], label))
    prepared = [Preprocess(grid=(4, 9, 4)).apply(scan) for scan in scans]
    for case, scan in zip(prepared, scans, strict=True):
        assert torch.equal(scan.image[0], scan.image[1])
        assert torch.equal(case.image, prepared[0].image)
        assert torch.equal(case.label, prepared[0].label)
        np.testing.assert_allclose(scan.affine, scans[0].affine, atol=1e-5)
    written = nib.load(write_volume(tmp_path / "m.nii.gz", scan.label, scan.affine, np.uint8, scan.origin.header))
    np.testing.assert_array_equal(written.dataobj, nib.load(label).dataobj)
    np.testing.assert_array_equal(written.affine, nib.load(label).affine)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "ASR", "SRA", "RSA", "AIL"])
@pytest.mark.parametrize("flat", [False, True])
def test_a_single_slice_lies_across_the_last_axis_and_its_result_on_its_pixels(tmp_path, codes, flat) -> None:
    stored = reordered(VOLUME, codes).slicer[:, :, :1]
    if flat:
        stored = nib.Nifti1Image(stored.get_fdata(dtype=np.float32)[..., 0], stored.affine)
    nib.save(stored, tmp_path / "a.nii.gz")
    scan = read_scan("a", [tmp_path / "a.nii.gz"])
    assert scan.shape[2] == 1
    world = nib.affines.apply_affine(scan.affine, [[0, 0, 0], [1, 0, 0], [0, 1, 0]])
    assert (np.abs(np.diff(world, axis=0)).max(1) > 0).all()
    inside = np.argwhere(scan.image[0].numpy() > 5)
    index = np.rint(nib.affines.apply_affine(np.linalg.inv(stored.affine) @ scan.affine, inside)).astype(int)
    voxels = stored.get_fdata().reshape(*stored.shape[:2], 1)
    assert (voxels[tuple(index.T)] > 5).all()
    written = nib.load(write_volume(tmp_path / "m.nii.gz", scan.image[0], scan.affine, np.float32, scan.origin.header))
    assert written.shape == stored.shape
    np.testing.assert_array_equal(written.get_fdata(), stored.get_fdata())
    np.testing.assert_allclose(written.affine, stored.affine, atol=1e-5)


@pytest.mark.parametrize(("degrees", "nudge"), [(0, 1e-4 * np.eye(4, k=1)), (45, NUDGE), (45, -NUDGE)])
def test_files_of_a_case_whose_affines_differ_by_rounding_lie_on_one_grid(tmp_path, write, truth, degrees, nudge):
    image = write(tmp_path / "a.nii.gz", truth, turned(degrees))
    scan = read_scan("a", [image], write(tmp_path / "l.nii.gz", truth, turned(degrees) + nudge))
    assert scan.label.dtype == torch.int64
    assert torch.equal(scan.label.float(), scan.image[0])


def test_an_interrupted_write_leaves_the_older_file_and_no_other(tmp_path: Path, monkeypatch) -> None:
    path = write_volume(tmp_path / "a.nii.gz", torch.ones(2, 2, 2), np.eye(4))
    before = path.read_bytes()

    def break_off(image: object, partial: Path) -> None:
        partial.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr("nibabel.save", break_off)
    with refuses("a.nii.gz", "no space left"):
        write_volume(path, torch.zeros(2, 2, 2), np.eye(4))
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == {path: before}


def test_what_is_not_a_volume_is_not_written(tmp_path: Path) -> None:
    for name, shape, token in (("a.nii.gz", (2, 2, 2, 2), "three axes"), ("a.png", (2, 2, 2), ".nii.gz or .nii")):
        with refuses(name, token):
            write_volume(tmp_path / name, torch.zeros(shape), np.eye(4))


def test_stored_scaling_is_applied(tmp_path: Path) -> None:
    volume = np.linspace(-1, 1, 27, dtype=np.float32).reshape(3, 3, 3)
    nib.save(nib.Nifti1Image(volume, np.eye(4), dtype=np.int16), tmp_path / "a.nii.gz")
    assert nib.load(tmp_path / "a.nii.gz").dataobj.slope < 1e-3
    np.testing.assert_allclose(read_scan("a", [tmp_path / "a.nii.gz"]).image[0], volume, atol=1e-4)


@pytest.mark.parametrize("extension", [".nii", ".nii.gz"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99, "text"])
def test_a_truncated_file_and_one_of_another_format_are_refused(tmp_path, write, share, extension) -> None:
    path = write(tmp_path / f"a{extension}", np.random.default_rng(0).normal(size=(20, 20, 20)))
    whole = path.read_bytes()
    path.write_bytes(b"not an image" * 100 if share == "text" else whole[: int(share * len(whole))])
    with refuses(str(path), "cannot be read", "truncated", "copy or download it again"):
        read_scan("a", [path])


def test_no_flipped_bit_that_gzip_refuses_is_read_as_a_voxel(tmp_path, write) -> None:
    path = write(tmp_path / "a.nii.gz", np.random.default_rng(0).normal(size=(8, 8, 8)))
    whole, voxels = path.read_bytes(), read_scan("a", [path]).image
    for bit in [*range(80), *np.random.default_rng(1).integers(80, 8 * len(whole), 300).tolist()]:
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            gzip.decompress(bytes(flipped))
        except Exception:
            with refuses(str(path)):
                read_scan("a", [path])
        else:  # the time or the system of the writer; flags that Python ignores may be refused
            assert bit // 8 == 3 or torch.equal(read_scan("a", [path]).image, voxels)


CLAIMS = [(3, 32767, 32767, 32767), (3, 700, 700, 700), (3, 4, -4, 4), (3, 4, 0, 4), (0, 4, 4, 4), (9, 4, 4, 4)]
QFORM = {"qform_code": 1, "sform_code": 0}
HEADERS = [
    *({"dim": [*claim, 1, 1, 1, 1]} for claim in CLAIMS),
    *({"vox_offset": offset} for offset in (np.inf, np.nan, 1e30)),
    {"datatype": 7},
    *({"srow_x": [value, 0, 0, 0]} for value in (np.inf, 0)),
    {"srow_x": 0, "srow_y": 0, "srow_z": 0},
    {"quatern_b": 9} | QFORM,
    {"pixdim": [1, np.inf, 1, 1, 0, 0, 0, 0]} | QFORM,
]


@pytest.mark.parametrize("extension", [".nii", ".nii.gz"])
@pytest.mark.parametrize("broken", HEADERS, ids=str)
def test_a_header_that_cannot_be_true_is_refused_in_little_memory(tmp_path, write, broken, extension) -> None:
    voxels = np.arange(64.0).reshape(4, 4, 4)
    content = bytearray(write(tmp_path / "a.nii", voxels).read_bytes())
    header = np.ndarray((), nib.Nifti1Header.template_dtype, content)
    for field, value in broken.items():
        header[field] = value
    path = tmp_path / f"broken{extension}"
    path.write_bytes(gzip.compress(content) if extension == ".nii.gz" else bytes(content))
    tracemalloc.start()
    with refuses(str(path)):
        read_scan("a", [path])
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("place", "error", "token"),
    [
        ("pathlib.Path.open", PermissionError(13, "Permission denied"), "Permission denied. Check"),
        ("pathlib.Path.is_file", OSError(5, "Input/output error"), "Input/output error. Check"),
        ("nibabel.Nifti1Image.from_bytes", MemoryError(), "MemoryError"),
        ("nibabel.Nifti1Image.from_bytes", OverflowError("too large"), "too large"),
    ],
)
def test_what_the_system_refuses_is_said_in_its_words(tmp_path, write, monkeypatch, place, error, token) -> None:
    path = write(tmp_path / "a.nii.gz")
    monkeypatch.setattr(place, Mock(side_effect=error))
    with refuses(str(path), token):
        read_scan("a", [path])


def rand(*shape: int, value: float = 1.0, count: int = 1) -> np.ndarray:
    """Return random voxels, of which the first are replaced."""
    voxels = np.random.default_rng(0).uniform(1, 9, shape).astype(np.float32)
    voxels.flat[:count] = value
    return voxels


@pytest.mark.parametrize(
    ("voxels", "modalities", "tokens"),
    [
        (None, 1, ["does not exist"]),
        (rand(4, 4, 4, 2), 1, ["(4, 4, 4, 2)", "--data.channels 2", "'modality'"]),
        (rand(4, 4, 4), 3, ["(4, 4, 4)", "NAME_0000.nii.gz"]),
        (rand(4, 4, 4, 2), 3, ["(4, 4, 4, 2)", "holds 2"]),
        (rand(4), 1, ["(4,)", "3-D"]),
        (rand(4, 4), 2, ["2 3-D", "NAME_0000.nii.gz"]),
        (rand(4, 4, 4, 1, 3), 1, ["(4, 4, 4, 1, 3)", "3-D"]),
        (rand(4, 4, 4, value=np.nan, count=3), 1, ["3 of 64", "not finite", "leave the case out"]),
        (rand(4, 4, 4, value=np.inf, count=3), 1, ["3 of 64", "not finite"]),
        (np.full((4, 4, 4), 7.0), 1, ["constant", "is 7"]),
        (np.zeros((3, 3, 3), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")]), 1, ["real numbers"]),
        (np.zeros((3, 3, 3), dtype=np.complex64), 1, ["real numbers", "complex64"]),
    ],
)  # fmt: skip
def test_images_that_cannot_be_used_are_refused(tmp_path, voxels, modalities, tokens) -> None:
    path = tmp_path / "a.nii.gz"
    if voxels is not None:
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), path)
    with refuses(str(path), *tokens):
        read_scan("a", [path], modalities=modalities)


def test_labels_that_a_factor_in_the_header_moved_off_whole_numbers_are_rounded(tmp_path, write) -> None:
    moved = np.full((6, 7, 5), 0.99999994, np.float32)
    moved[0], moved[1] = -1e-6, 2.0001
    nib.save(nib.Nifti1Image(moved, np.eye(4)), tmp_path / "l.nii.gz")
    label = read_scan("a", [write(tmp_path / "a.nii.gz", rand(6, 7, 5))], tmp_path / "l.nii.gz").label
    assert label[:, 0, 0].tolist() == [0, 2, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("label", "affine", "tokens"),
    [
        (np.ones((6, 7, 4), np.uint8), np.eye(4), ["(6, 7, 5)", "(6, 7, 4)", "pair the right files"]),
        (np.ones((6, 7, 5), np.uint8), np.eye(4) + 1.5 * np.eye(4, k=3), ["1.5 mm apart"]),
        *((rand(6, 7, 5, value=value), np.eye(4), ["whole numbers"]) for value in (0.5, -1.0, np.nan, np.inf, 2.0**60)),
        (np.full((6, 7, 5), -1, np.int16), np.eye(4), ["-1"]),
        (np.arange(2, 632, dtype=np.int32).reshape(6, 7, 15), np.eye(4), ["looks like an image"]),
    ],
)
def test_labels_that_cannot_be_used_are_refused_with_their_file(tmp_path, write, label, affine, tokens) -> None:
    nib.save(nib.Nifti1Image(label, affine), tmp_path / "l.nii.gz")
    image = write(tmp_path / "a.nii.gz", rand(6, 7, 5 if label.shape[2] < 6 else 15))
    with refuses(str(tmp_path / "l.nii.gz"), *tokens):
        read_scan("a", [image], tmp_path / "l.nii.gz")


@pytest.mark.parametrize("packed", [False, True])
def test_zeros_behind_the_voxels_are_padding_and_anything_else_is_refused(tmp_path, packed) -> None:
    nib.save(nib.Nifti1Image(np.random.default_rng(0).random((4, 5, 6), np.float32), np.eye(4)), tmp_path / "a.nii")
    whole, path = (tmp_path / "a.nii").read_bytes(), tmp_path / f"b.nii{'.gz' * packed}"
    pack = gzip.compress if packed else bytes
    path.write_bytes(pack(whole + bytes(512)))
    assert torch.equal(read_scan("b", [path]).image, read_scan("a", [tmp_path / "a.nii"]).image)
    for rest in (bytes(511) + b"\1", bytes(5000)):
        path.write_bytes(pack(whole + rest))
        with refuses(str(path), "holds more than the voxels"):
            read_scan("b", [path])
