import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from pyro_dwp.data import nifti, read_scan, write_volume
from pyro_dwp.errors import DataError

TURN = np.deg2rad(20)
AFFINES = {
    "plain": np.diag([1.0, 2.0, 3.0, 1.0]),
    "flipped": np.array([[-0.9, 0, 0, 80], [0, 1.1, 0, -70], [0, 0, -5.0, 30], [0, 0, 0, 1]]),
    "permuted": np.array([[0, 0, 2.0, 1], [-1.5, 0, 0, 2], [0, 1.0, 0, 3], [0, 0, 0, 1]]),
    "rotated": np.array(
        [[np.cos(TURN), -2 * np.sin(TURN), 0, -9], [np.sin(TURN), 2 * np.cos(TURN), 0, 8], [0, 0, 3, 7], [0, 0, 0, 1]]
    ),
}


@pytest.mark.parametrize("name", AFFINES)
def test_round_trip_keeps_voxels_affine_and_orientation(tmp_path: Path, name: str) -> None:
    affine, volume = AFFINES[name], torch.randn(5, 4, 3)
    path = write_volume(tmp_path / "new" / "a.nii.gz", volume, affine)
    scan = read_scan("a", [path])
    assert torch.equal(scan.image[0], volume)
    np.testing.assert_allclose(scan.affine, affine, atol=1e-5)
    assert nib.aff2axcodes(scan.affine) == nib.aff2axcodes(affine)


@pytest.mark.parametrize("name", AFFINES)
def test_both_affines_of_a_written_header_agree(tmp_path: Path, name: str) -> None:
    header = nib.load(write_volume(tmp_path / "a.nii.gz", torch.randn(5, 4, 3), AFFINES[name])).header
    np.testing.assert_allclose(header.get_qform(), header.get_sform(), atol=1e-4)
    assert header.get_xyzt_units()[0] == "mm"


def test_integers_are_written_as_integers(tmp_path: Path) -> None:
    mask = torch.randint(0, 3, (4, 4, 4))
    file = nib.load(write_volume(tmp_path / "a.nii", mask, np.eye(4), dtype=np.uint8))
    assert file.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(file.dataobj), mask.numpy())


def test_an_interrupted_write_leaves_the_older_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_volume(tmp_path / "a.nii.gz", torch.ones(2, 2, 2), np.eye(4))
    before = path.read_bytes()

    def break_off(image: object, partial: Path) -> None:
        partial.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(nifti.nib, "save", break_off)
    with pytest.raises(DataError, match=r"a\.nii\.gz cannot be written .*no space left"):
        write_volume(path, torch.zeros(2, 2, 2), np.eye(4))
    assert [file.name for file in tmp_path.iterdir()] == ["a.nii.gz"]
    assert path.read_bytes() == before


def test_a_volume_with_channels_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="three axes"):
        write_volume(tmp_path / "a.nii.gz", torch.zeros(2, 2, 2, 2), np.eye(4))


def test_a_name_without_nifti_extension_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\.nii\.gz or \.nii"):
        write_volume(tmp_path / "a.png", torch.zeros(2, 2, 2), np.eye(4))


def test_stored_scaling_is_applied(tmp_path: Path) -> None:
    volume = np.linspace(-1, 1, 27, dtype=np.float32).reshape(3, 3, 3)
    nib.save(nib.Nifti1Image(volume, np.eye(4), dtype=np.int16), tmp_path / "a.nii.gz")
    assert nib.load(tmp_path / "a.nii.gz").dataobj.slope < 1e-3
    np.testing.assert_allclose(read_scan("a", [tmp_path / "a.nii.gz"]).image[0], volume, atol=1e-4)


def test_several_files_become_channels_in_their_order(tmp_path, write) -> None:
    first, second = write(tmp_path / "t1.nii.gz"), write(tmp_path / "t2.nii.gz", np.arange(210.0).reshape(6, 7, 5))
    scan = read_scan("a", [second, first])
    assert torch.equal(scan.image[0].flatten(), torch.arange(210.0))
    assert torch.equal(scan.image[1:], read_scan("a", [first]).image)


def test_the_fourth_axis_becomes_the_channels_where_modalities_are_declared(tmp_path, write) -> None:
    path = write(tmp_path / "a.nii.gz", np.random.default_rng(0).normal(size=(6, 7, 5, 3)))
    scan = read_scan("a", [path], modalities=3)
    assert scan.image.shape == (3, 6, 7, 5)
    assert torch.equal(scan.image[2], torch.from_numpy(nib.load(path).get_fdata(dtype=np.float32)[..., 2]))


def test_a_trailing_axis_of_one_is_dropped(tmp_path, write) -> None:
    assert read_scan("a", [write(tmp_path / "a.nii.gz", np.random.rand(3, 4, 5, 1))]).image.shape == (1, 3, 4, 5)


def test_labels_are_integers_on_the_grid_of_the_image(tmp_path, write, truth) -> None:
    scan = read_scan("a", [write(tmp_path / "a.nii.gz")], write(tmp_path / "l.nii.gz", truth))
    assert scan.label is not None
    assert scan.label.dtype == torch.int64
    np.testing.assert_array_equal(scan.label.numpy(), truth)


def test_a_missing_file_is_named(tmp_path) -> None:
    with pytest.raises(DataError, match=re.escape(f"{tmp_path / 'a.nii.gz'} does not exist")):
        read_scan("a", [tmp_path / "a.nii.gz"])


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
def test_a_truncated_file_is_named(tmp_path, write, share) -> None:
    path = write(tmp_path / "a.nii.gz", np.random.default_rng(0).normal(size=(20, 20, 20)))
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(DataError, match=r"a\.nii\.gz .*cannot be read.*truncated.*download it again"):
        read_scan("a", [path])


@pytest.mark.parametrize("extension", [".nii", ".nii.gz"])
def test_a_file_of_another_format_is_named(tmp_path, extension) -> None:
    path = tmp_path / f"a{extension}"
    path.write_text("not an image" * 100)
    with pytest.raises(DataError, match=r"cannot be read"):
        read_scan("a", [path])


def test_colour_voxels_are_refused(tmp_path) -> None:
    rgb = np.zeros((3, 3, 3), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(rgb, np.eye(4)), tmp_path / "a.nii.gz")
    with pytest.raises(DataError, match="real numbers"):
        read_scan("a", [tmp_path / "a.nii.gz"])


def test_a_4d_image_is_refused_where_3d_is_meant(tmp_path, write) -> None:
    path = write(tmp_path / "a.nii.gz", np.random.rand(4, 4, 4, 2))
    with pytest.raises(DataError, match=r"three axes, but .*a\.nii\.gz has shape \(4, 4, 4, 2\)"):
        read_scan("a", [path])


@pytest.mark.parametrize("shape", [(4, 4, 4), (4, 4, 4, 2)])
def test_an_image_with_other_modalities_than_declared_is_refused(tmp_path, write, shape) -> None:
    with pytest.raises(DataError, match="the last for its 3 modalities"):
        read_scan("a", [write(tmp_path / "a.nii.gz", np.random.rand(*shape))], modalities=3)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_that_are_not_finite_are_counted(tmp_path, write, value) -> None:
    image = np.random.rand(4, 4, 4)
    image[1, 2, :3] = value
    with pytest.raises(DataError, match=r"a\.nii\.gz has 3 of 64 voxels that are not finite"):
        read_scan("a", [write(tmp_path / "a.nii.gz", image)])


def test_a_constant_image_is_refused(tmp_path, write) -> None:
    with pytest.raises(DataError, match=r"a\.nii\.gz is constant: every voxel of sequence 0 is 7"):
        read_scan("a", [write(tmp_path / "a.nii.gz", np.full((4, 4, 4), 7.0))])


def test_shapes_that_differ_are_both_named(tmp_path, write) -> None:
    image, label = write(tmp_path / "a.nii.gz"), write(tmp_path / "l.nii.gz", np.ones((6, 7, 4), dtype=np.uint8))
    with pytest.raises(DataError, match=r"a\.nii\.gz is \(6, 7, 5\) and .*l\.nii\.gz is \(6, 7, 4\)"):
        read_scan("a", [image], label)


def test_affines_that_differ_are_reported_in_mm(tmp_path, write, truth) -> None:
    shifted = np.eye(4)
    shifted[0, 3] = 1.5
    image, label = write(tmp_path / "a.nii.gz"), write(tmp_path / "l.nii.gz", truth, shifted)
    with pytest.raises(DataError, match=r"a corner of the grid 1\.5 mm apart"):
        read_scan("a", [image], label)


def test_affines_that_differ_by_rounding_are_accepted(tmp_path, write, truth) -> None:
    image, label = write(tmp_path / "a.nii.gz"), write(tmp_path / "l.nii.gz", truth, np.eye(4) + 1e-4 * np.eye(4, k=1))
    assert read_scan("a", [image], label).label is not None


def test_an_affine_without_volume_is_refused(tmp_path, write) -> None:
    path = write(tmp_path / "a.nii", np.random.rand(4, 4, 4))
    file = nib.load(path)
    file.header["srow_x"] = 0
    image = nib.Nifti1Image(file.get_fdata(dtype=np.float32), None, file.header)
    nib.save(image, tmp_path / "b.nii")
    with pytest.raises(DataError, match="one plane"):
        read_scan("b", [tmp_path / "b.nii"])


@pytest.mark.parametrize("value", [0.5, -1.0, np.nan])
def test_labels_that_are_not_whole_numbers_from_0_are_refused(tmp_path, write, value) -> None:
    label = np.zeros((6, 7, 5))
    label[0, 0, 0] = value
    with pytest.raises(DataError, match=r"whole numbers from 0 on, but .*l\.nii\.gz"):
        read_scan("a", [write(tmp_path / "a.nii.gz")], write(tmp_path / "l.nii.gz", label))
