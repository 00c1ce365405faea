import base64
import math

import nibabel
import numpy as np
import pytest
import torch

from pyro_dwp.data import Scan
from pyro_dwp.report.page import volumes
from pyro_dwp.report.page.volumes import Case, average, blocks, embed, focus, majority, moved, windowed

AFFINE = np.array([[0.9, 0.1, 0, 5], [-0.1, 0.9, 0.2, -7], [0, -0.1, 3, 2], [0, 0, 0, 1]])
STEP = (2, 3, 1)


def each_block(shape, step):
    """Yield the index of each block, and the slices of its voxels."""
    edges = [-(-edge // block) for edge, block in zip(shape, step, strict=True)]
    for index in np.ndindex(*edges):
        yield index, tuple(slice(i * s, (i + 1) * s) for i, s in zip(index, step, strict=True))


def test_blocks_are_averaged_and_decided_by_majority():
    image, labels = torch.rand(5, 7, 3), torch.randint(0, 3, (5, 7, 3))
    means, classes = average(image, STEP), majority(labels, STEP, 3)
    for index, inside in each_block(image.shape, STEP):
        assert means[index].item() == pytest.approx(image[inside].mean().item(), abs=1e-6)
        counts = torch.bincount(labels[inside].flatten(), minlength=3)
        assert counts[classes[index]] == counts.max()


def test_a_block_lies_where_its_voxels_do():
    start = (3, 1, 2)
    affine = moved(AFFINE, start, STEP)
    for index, inside in each_block((4, 6, 3), STEP):
        voxels = np.stack(np.meshgrid(*[np.arange(s.start, s.stop) for s in inside], indexing="ij"), -1).reshape(-1, 3)
        centre = nibabel.affines.apply_affine(AFFINE, voxels + start).mean(0)
        assert np.allclose(nibabel.affines.apply_affine(affine, index), centre)


@pytest.mark.parametrize("shape", [(240, 240, 155), (512, 512, 400), (4096, 4096, 1), (30, 30, 30)])
def test_blocks_leave_few_voxels_and_no_fewer_than_needed(shape):
    step = blocks(shape, (1.0, 1.0, 1.0))
    left = math.prod(-(-edge // block) for edge, block in zip(shape, step, strict=True))
    assert left <= volumes.MOST_VOXELS
    assert step == [1, 1, 1] or left > volumes.MOST_VOXELS / 4


def test_an_image_is_windowed_between_its_percentiles():
    grey = windowed(torch.arange(1001.0).reshape(7, 11, 13))
    assert (grey.flatten()[[0, 5, 995, 1000]].round() == torch.tensor([0, 0, 255, 255])).all()
    assert grey.flatten()[500].item() == pytest.approx(127.5)


def test_embedded_volumes_decode_to_the_case_on_its_place(tmp_path, monkeypatch):
    monkeypatch.setattr(volumes, "MOST_VOXELS", 100)
    image = torch.zeros(1, 12, 10, 8)
    image[:, 2:10, 2:8, 1:7] = torch.rand(1, 8, 6, 6) + 1
    truth = (torch.rand(12, 10, 8) > 0.5).long()
    doubt = torch.full((12, 10, 8), math.log(2))
    found = embed(Case(Scan("a", image, truth, AFFINE), truth, None, doubt, "entropy"), classes=2)
    assert (found["start"], found["full"], found["mask"]) == ([2, 2, 1], [12, 10, 8], None)
    decoded = {}
    for name in ("scan", "truth", "doubt"):
        (tmp_path / f"{name}.nii.gz").write_bytes(base64.b64decode(found[name]))
        decoded[name] = nibabel.load(tmp_path / f"{name}.nii.gz")
        assert decoded[name].get_data_dtype() == np.uint8
        assert list(decoded[name].shape) == found["shape"]
        assert np.allclose(decoded[name].affine, moved(AFFINE, found["start"], found["step"]), atol=1e-5)
    assert (np.asarray(decoded["doubt"].dataobj) == 255).all()
    inside = truth[2:10, 2:8, 1:7]
    assert (torch.as_tensor(np.asarray(decoded["truth"].dataobj)) == majority(inside, found["step"], 2)).all()


def test_the_viewer_begins_in_the_middle_of_what_there_is_to_see():
    empty, box = torch.zeros(9, 9, 9), torch.zeros(9, 9, 9)
    box[2:7, 4, 1:4] = 1
    assert focus((9, 9, 9), None, box) == focus((9, 9, 9), empty, box) == [4, 4, 2]
    assert focus((9, 9, 7), None, empty) == [4, 4, 3]
