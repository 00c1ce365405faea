"""Small NIfTI data sets, valid unless a test breaks them."""

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest

SHAPE = (6, 7, 5)
Write = Callable[..., Path]


@pytest.fixture
def write() -> Write:
    """Write an array, random intensities unless given, as a NIfTI file and return its path."""

    def write_file(path: Path, array: npt.ArrayLike | None = None, affine=None, dtype: npt.DTypeLike = None) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        voxels = np.random.default_rng(0).uniform(1, 9, SHAPE) if array is None else np.asarray(array)
        voxels = voxels.astype(dtype or (np.uint8 if voxels.dtype.kind in "iub" else np.float32))
        nib.save(nib.Nifti1Image(voxels, np.eye(4) if affine is None else np.asarray(affine)), path)
        return path

    return write_file


@pytest.fixture
def truth() -> npt.NDArray[np.uint8]:
    label = np.zeros(SHAPE, dtype=np.uint8)
    label[2:4, 2:5, 1:3] = 1
    return label


@pytest.fixture
def task(tmp_path: Path, write: Write, truth: npt.NDArray[np.uint8]) -> Path:
    """Return the folder of a Decathlon task with the cases a and b."""
    folder = tmp_path / "Task00_Test"
    entries = []
    for name in ("b", "a"):
        write(folder / "imagesTr" / f"{name}.nii.gz")
        write(folder / "labelsTr" / f"{name}.nii.gz", truth)
        entries.append({"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"})
    description = {"modality": {"0": "FLAIR"}, "training": entries, "test": ["./imagesTs/c.nii.gz"], "numTest": 1}
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder
