"""One scan, whatever it is given as."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pyro_dwp.data import Scan, Sequences, write_volume
from pyro_dwp.errors import ConfigError
from tests.helpers.refusal import refuses

AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])
IMAGE = torch.rand(2, 4, 5, 6, generator=torch.Generator().manual_seed(0))
NAMES = ("flair", "t1")
TWO = Sequences(2, NAMES)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """One scan of two sequences, in the order of the network, in a folder of its own."""
    paths = [tmp_path / "new" / f"new_{name}.nii.gz" for name in NAMES]
    for path, channel in zip(paths, IMAGE, strict=True):
        write_volume(path, channel, AFFINE, np.float32)
    return paths


def test_files_their_folder_arrays_and_a_scan_are_the_same_scan(files: list[Path]) -> None:
    forms = (files, [str(path) for path in files], files[0].parent, str(files[0].parent))
    arrays = (IMAGE, IMAGE.numpy(), IMAGE.double().numpy())
    scans = [TWO.scan(form) for form in forms] + [TWO.scan(array, (1, 2, 3)) for array in arrays]
    for scan in (*scans, TWO.scan(scans[0])):
        torch.testing.assert_close(scan.image, IMAGE)
        np.testing.assert_array_equal(scan.affine, AFFINE)


def test_sequences_are_found_by_name_whatever_their_order_in_the_folder(files: list[Path]) -> None:
    torch.testing.assert_close(Sequences(2, ("t1", "flair")).scan(files[0].parent).image, IMAGE.flip(0))


def test_a_single_file_and_a_volume_without_channels_have_one_channel(files: list[Path]) -> None:
    one = Sequences(1, ("0",))
    torch.testing.assert_close(one.scan(files[1]).image, IMAGE[1:])
    torch.testing.assert_close(one.scan(IMAGE[1], (1, 2, 3)).image, IMAGE[1:])


def test_what_is_not_one_scan_of_these_sequences_is_refused(files: list[Path]) -> None:
    with refuses("case a", "3 channel(s)", "from 2 (flair, t1)"):
        TWO.scan(Scan("a", torch.ones(3, 4, 5, 6), None, np.eye(4)))
    with refuses("new_flair.nii.gz", "should hold 2", "(4, 5, 6)"):
        Sequences(2, ("0", "1")).scan(files[0])
    with refuses("2 scans", "one"):
        Sequences(1).scan(files[0].parent)
    with refuses("spacing=(1, 1, 3)", error=ConfigError):
        TWO.scan(IMAGE)
    with refuses("nowhere.nii.gz"):
        TWO.scan("nowhere.nii.gz")
