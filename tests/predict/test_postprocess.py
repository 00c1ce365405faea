"""Masks after the network, against pieces and holes that are found voxel by voxel."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from pyro_dwp.data import Preprocess, Scan
from pyro_dwp.errors import ConfigError
from pyro_dwp.predict import Postprocess, Predictor
from tests.helpers.refusal import refuses

SHAPES = [(6, 7, 5), (9, 8, 1), (1, 9, 9)]
Voxels = set[tuple[int, ...]]


def pieces(voxels: Voxels, faces: bool = False) -> list[Voxels]:
    """Return the connected pieces of a set of voxels, in the order of their first voxels, by flooding."""
    steps = [step for step in product((-1, 0, 1), repeat=3) if sum(map(abs, step)) in ([1] if faces else [1, 2, 3])]
    left, found = sorted(voxels, reverse=True), []
    while left:
        edge, piece = [left.pop()], set()
        while edge:
            voxel = edge.pop()
            piece.add(voxel)
            near = {tuple(a + b for a, b in zip(voxel, step, strict=True)) for step in steps} & voxels
            edge += near - piece
        found.append(piece)
        left = [voxel for voxel in left if voxel not in piece]
    return found


def indices(mask: Tensor) -> Voxels:
    return {tuple(voxel) for voxel in mask.nonzero().tolist()}


def drawn(classes: int, shape: tuple[int, ...], seed: int, background: float) -> Tensor:
    """Return random probabilities, of which a larger number for the background leaves less to the other classes."""
    noise = torch.randn(classes, *shape, generator=torch.Generator().manual_seed(seed))
    noise[0] += background
    return noise.softmax(0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(3))
def test_of_one_structure_the_largest_piece_or_those_large_enough_remain(shape, seed):
    probability = drawn(2, shape, seed, background=1.3)
    found = pieces(indices(probability.argmax(0)))
    assert len({len(piece) for piece in found}) > 1
    kept = {
        Postprocess(largest=True): [max(found, key=len)],
        Postprocess(smallest_ml=0.006): [piece for piece in found if len(piece) >= 2],
        Postprocess(): found,
    }
    for settings, expected in kept.items():
        assert indices(settings.apply(probability, {"lesion": (1,)}, 0.003)) == set().union(*expected)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(3))
def test_background_is_filled_from_where_faces_do_not_lead_to_the_edge_of_the_scan(shape, seed):
    probability = drawn(2, shape, seed, background=-1.0)
    mask = probability.argmax(0)
    edge = lambda voxel: any(at in (0, size - 1) for at, size in zip(voxel, shape, strict=True) if size > 1)  # noqa: E731
    holes = [piece for piece in pieces(indices(mask == 0), faces=True) if not any(map(edge, piece))]
    assert holes
    filled = Postprocess(fill_holes=True).apply(probability, {"lesion": (1,)}, 1.0)
    assert indices(filled) == indices(mask).union(*holes)


NESTED = {"whole": (1, 2, 3), "core": (1, 3), "enhancing": (3,)}


def test_a_piece_of_exactly_the_smallest_volume_stays_whatever_the_rounding():
    line = torch.tensor([0.1, 0.9, 0.9, 0.9, 0.1])[:, None, None]
    for voxel in (0.1, 0.003, 0.001, 0.0007):
        kept = Postprocess(smallest_ml=3 * voxel).apply(torch.stack([1 - line, line]), {"lesion": (1,)}, voxel)
        assert int(kept.sum()) == 3


@pytest.mark.parametrize("seed", range(8))
def test_nested_structures_are_each_in_one_large_piece_at_the_end(seed):
    probability = drawn(4, (9, 8, 7), seed, background=2.0)
    before = probability.clone()
    mask = Postprocess(largest=True, smallest_ml=0.004).apply(probability, NESTED, 0.001)
    for members in NESTED.values():
        found = pieces(indices(torch.isin(mask, torch.tensor(members))))
        assert len(found) <= 1
        assert all(len(piece) >= 4 for piece in found)
    assert torch.equal(probability, before)
    assert (mask[probability.argmax(0) == 0] == 0).all()


def test_a_piece_that_is_removed_takes_the_most_probable_class_outside_its_structure():
    only = {name: Postprocess(largest=(name,)) for name in NESTED}
    line = torch.tensor([[0.0, 0, 0, 0, 8, 0], [0, 0, 2, 0, 0, 1], [9, 0, 3, 9, 0, 0], [0, 9, 0, 0, 1, 7]])[
        :, :, None, None
    ]
    assert line.argmax(0).flatten().tolist() == [2, 3, 2, 2, 0, 3]
    assert only["whole"].apply(line, NESTED, 1.0).flatten().tolist() == [2, 3, 2, 2, 0, 0]
    assert only["enhancing"].apply(line, NESTED, 1.0).flatten().tolist() == [2, 3, 2, 2, 0, 1]
    assert only["core"].apply(line, NESTED, 1.0).flatten().tolist() == [2, 3, 2, 2, 0, 0]


def test_another_class_within_a_structure_is_no_hole_and_a_hole_takes_a_class_of_its_structure():
    probability = torch.zeros(3, 5, 5, 5)
    probability[0] = 1
    probability[:, 1:4, 1:4, 1:4] = torch.tensor([0, 1.0, 0.5])[:, None, None, None]
    probability[:, 2, 2, 2] = torch.tensor([0, 0.0, 1])
    fill = Postprocess(fill_holes=True)
    assert torch.equal(fill.apply(probability, {"liver": (1,), "tumour": (2,)}, 1.0), probability.argmax(0))
    probability[:, 2, 2, 2] = torch.tensor([0.5, 0.1, 0.4])
    assert fill.apply(probability, {"liver": (1,), "tumour": (2,)}, 1.0)[2, 2, 2] == 1
    assert fill.apply(probability, {"all": (1, 2)}, 1.0)[2, 2, 2] == 2


def test_a_predictor_counts_in_ml_on_the_scans_grid_and_leaves_probabilities_alone():
    image = torch.ones(1, 12, 4, 4)
    image[0, 1:4], image[0, 8:9] = 9, 9  # 48 and 16 voxels
    sheared = np.array([[1.0, 0.5, 0, 0], [0, 2, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]])  # of 6 mm³
    scan = Scan("a", image, None, sheared)
    bright = lambda x: torch.cat([torch.zeros_like(x), 20 * x], dim=1)  # noqa: E731
    masks = {}
    for smallest in (None, 0.0959, 0.0961, 1.0):
        after = None if smallest is None else Postprocess(smallest_ml=smallest)
        prediction = Predictor(lambda: bright, Preprocess(), samples=1, postprocess=after).predict(scan)
        masks[smallest] = int(prediction.mask.sum())
        assert int((prediction.probability[1] > 0.5).sum()) == 64
    assert masks == {None: 64, 0.0959: 64, 0.0961: 48, 1.0: 0}


def test_a_structure_that_the_run_does_not_name_is_refused_before_anything_is_predicted():
    known = Preprocess(structures={"whole tumour": [1, 2], "core": [1]})
    with refuses("'whole tumor'", "whole tumour", error=ConfigError):
        Predictor(lambda: abs, known, postprocess=Postprocess(largest=("whole tumor",)))
    with refuses("'core'", "preprocess.structures", error=ConfigError):
        Predictor(lambda: abs, Preprocess(), postprocess=Postprocess(largest=("core",)))
    assert (
        Predictor(lambda: abs, known, postprocess=Postprocess(largest="core, whole tumour")).postprocess.largest[0]
        == "core"
    )
