"""MHA and NRRD against NIfTI: the same voxels at the same places, checked by ITK as MONAI calls it; and damaged files."""

import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from pyro_dwp.data import FolderPairs, Preprocess, read_label, read_scan
from pyro_dwp.predict import Prediction, score_folders, write_prediction
from tests.data.test_nifti import AFFINES
from tests.helpers.refusal import refuses

pytestmark = pytest.mark.filterwarnings("ignore:builtin type")  # of SWIG, where ITK loads its modules
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    itk = pytest.importorskip("itk")
    itk.image_from_array(np.zeros((1, 1, 1), np.int16))
nrrd = pytest.importorskip("nrrd")

OBLIQUE = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
PLACES = {name: affine for name, affine in AFFINES.items() if name != "sheared"} | {
    "oblique": np.block(
        [[OBLIQUE @ np.diag([0.9, 1.3, 4.0]), np.array([[12.0], [-30.0], [7.0]])], [np.zeros(3), np.ones(1)]]
    )
}
FORMATS = {".mha": [False, True], ".mhd": [False, True], ".nrrd": [False, True], ".nhdr": [False]}
WRITTEN = [(ending, packed) for ending, kinds in FORMATS.items() for packed in kinds]
VOXELS = np.random.default_rng(0).integers(0, 1000, (6, 7, 5)).astype(np.int16)


def save(path: Path, voxels: np.ndarray, affine: np.ndarray, compressed: bool = False) -> Path:
    """Write voxels (D, H, W) at an affine in RAS mm with ITK, whose places are LPS."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = itk.image_from_array(np.ascontiguousarray(voxels.T))
    placed = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    spacing = np.linalg.norm(placed[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(placed[:3, 3].tolist())
    image.SetDirection(itk.matrix_from_array(np.ascontiguousarray(placed[:3, :3] / spacing)))
    itk.imwrite(image, str(path), compression=compressed)
    return path


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("ending", "compressed"), WRITTEN)
def test_a_volume_is_the_same_in_each_format_and_as_monai_reads_it(tmp_path, place, ending, compressed) -> None:
    from monai.data import ITKReader

    affine = PLACES[place]
    nib.save(nib.Nifti1Image(VOXELS, affine), tmp_path / "a.nii.gz")
    path = save(tmp_path / f"a{ending}", VOXELS, affine, compressed)
    expected, scan = read_scan("a", [tmp_path / "a.nii.gz"]), read_scan("a", [path])
    assert torch.equal(scan.image, expected.image)
    np.testing.assert_allclose(scan.affine, expected.affine, atol=1e-4)
    reader = ITKReader()
    voxels, meta = reader.get_data(reader.read(str(path)))
    np.testing.assert_array_equal(voxels, VOXELS)
    np.testing.assert_allclose(scan.origin.header.affine, meta["affine"], atol=1e-6)


@pytest.mark.parametrize("kind", ["u1", "u2", "i2", "u4", "i4", "f4", "f8"])
@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_every_type_of_voxel_is_read_as_it_was_stored(tmp_path, ending, kind) -> None:
    stored = (VOXELS % 100 - (50 if kind[0] != "u" else 0)).astype(kind)
    path = save(tmp_path / f"a{ending}", stored, np.eye(4))
    assert torch.equal(read_scan("a", [path]).image[0], torch.from_numpy(stored.astype(np.float32)))
    if kind[0] == "u":
        assert torch.equal(read_label(path), torch.from_numpy(stored.astype(np.int64)))


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_several_values_of_a_voxel_are_sequences(tmp_path, ending) -> None:
    colours = np.random.default_rng(0).integers(1, 255, (5, 7, 6, 3)).astype(np.uint8)
    itk.imwrite(itk.image_from_array(colours, is_vector=True), str(tmp_path / f"a{ending}"))
    image = read_scan("a", [tmp_path / f"a{ending}"], modalities=3).image.flip(1, 2)  # LPS to RAS
    np.testing.assert_array_equal(image, colours.transpose(3, 2, 1, 0))
    with refuses("should hold 1", "(6, 7, 5, 3)"):
        read_scan("a", [tmp_path / f"a{ending}"])


@pytest.mark.parametrize("space", ["left-posterior-superior", "right-anterior-superior", "LAS", None])
def test_an_nrrd_lies_where_the_space_in_its_header_says(tmp_path, space) -> None:
    signs = {"right-anterior-superior": [1, 1, 1], "LAS": [-1, 1, 1]}.get(space, [-1, -1, 1])
    header = {"space": space} if space else {"space dimension": 3}
    header |= {"space directions": np.diag([1.0, 2, 3]), "space origin": [4.0, 5, 6]}
    nrrd.write(str(tmp_path / "a.nrrd"), VOXELS, header)
    stored = read_scan("a", [tmp_path / "a.nrrd"]).origin.header.affine
    np.testing.assert_allclose(
        stored, np.diag([*signs, 1]) @ np.array([[1, 0, 0, 4], [0, 2, 0, 5], [0, 0, 3, 6], [0, 0, 0, 1]])
    )


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
@pytest.mark.parametrize("place", ["oblique", "permuted"])
def test_results_are_nifti_on_exactly_the_grid_of_the_scan_and_are_scored_against_its_label(tmp_path, ending, place):
    affine, truth = PLACES[place], (VOXELS > 500).astype(np.uint8)
    save(tmp_path / "images" / f"a{ending}", VOXELS, affine)
    save(tmp_path / "labels" / f"a{ending}", truth, affine)
    source = FolderPairs(str(tmp_path / "images"), str(tmp_path / "labels"))
    scan = source.load("a")
    probability = torch.nn.functional.one_hot(scan.label, 2).movedim(-1, 0).float()
    flat = torch.zeros(scan.shape)
    mask = nib.load(
        write_prediction(tmp_path / "masks", Prediction(probability, flat, flat), scan, Preprocess())["mask"]
    )
    np.testing.assert_array_equal(mask.dataobj, truth)
    np.testing.assert_allclose(mask.affine, affine, atol=1e-5)
    assert score_folders(tmp_path / "masks", tmp_path / "labels").table.mean()["dice"] == 1


@pytest.mark.parametrize(("ending", "compressed"), [(".mha", False), (".mha", True), (".nrrd", False), (".nrrd", True)])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused_and_nothing_is_printed(tmp_path, capfd, ending, compressed, share) -> None:
    path = save(tmp_path / f"a{ending}", VOXELS, np.eye(4), compressed)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with refuses(str(path), "cannot be read", "truncated"):
        read_scan("a", [path])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_no_flipped_bit_of_compressed_voxels_is_read_as_another_voxel(tmp_path, ending) -> None:
    path = save(tmp_path / f"a{ending}", VOXELS, np.eye(4), compressed=True)
    whole, voxels = path.read_bytes(), read_scan("a", [path]).image
    start = whole.index(b"LOCAL\n" if ending == ".mha" else b"\n\n") + 16
    refused = 0
    for bit in np.random.default_rng(1).integers(8 * start, 8 * len(whole), 300).tolist():
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            assert torch.equal(read_scan("a", [path]).image, voxels)
        except Exception as error:
            refused += str(path) in str(error)
    assert refused > 280


META = [
    *(
        ("DimSize = 6 7 5", f"DimSize = {claim}")
        for claim in ("6 7 4", "6 7", "6 -7 5", "6 0 5", "60000 60000 60000", "6 7 x")
    ),
    *(("NDims = 3", f"NDims = {claim}") for claim in (99, 2, 0, "x")),
    *(("MET_SHORT", name) for name in ("MET_STRING", "MET_FLOAT")),
    *(("BinaryData = True", "BinaryData = False"), ("CompressedData = False", "CompressedData = True")),
    *(("TransformMatrix = -1", f"TransformMatrix = {value}") for value in ("nan", "0", "x")),
    *(("ElementSpacing = 1", f"ElementSpacing = {value}") for value in ("inf", "0")),
    *(("ElementDataFile = LOCAL", f"ElementDataFile = {file}") for file in ("LIST", "../a.raw", "/etc/passwd", "")),
]
NRRDS = [
    *(
        ("sizes: 6 7 5", f"sizes: {claim}")
        for claim in ("6 7 4", "6 7", "6 -7 5", "0 7 5", "60000 60000 60000", "6 7 x")
    ),
    *(("type: short", f"type: {name}") for name in ("block", "float", "x")),
    *(("encoding: raw", f"encoding: {name}") for name in ("bzip2", "gzip", "x")),
    *(("space: left-posterior-superior", f"space: {name}") for name in ("scanner-xyz", "x")),
    *(("(-1,0,0) (0,-1,0)", broken) for broken in ("(0,0,0) (0,1,0)", "(nan,0,0) (0,1,0)", "(1,0) (0,1,0)", "x")),
    ("encoding: raw", "encoding: raw\ndata file: ../a.raw"),
]


@pytest.mark.parametrize(
    ("ending", "old", "new"), [(".mha", *change) for change in META] + [(".nrrd", *change) for change in NRRDS]
)
def test_a_header_that_cannot_be_true_is_refused(tmp_path, ending, old, new) -> None:
    path = save(tmp_path / f"a{ending}", VOXELS, np.eye(4))
    whole = path.read_bytes()
    assert old.encode() in whole
    path.write_bytes(whole.replace(old.encode(), new.encode()))
    with refuses(str(path)):
        read_scan("a", [path])


def test_a_missing_package_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch) -> None:
    path = save(tmp_path / "a.nrrd", VOXELS, np.eye(4))
    monkeypatch.setitem(__import__("sys").modules, "nrrd", None)
    with refuses(str(path), "pip install", "[formats]"):
        read_scan("a", [path])
