"""The highest Dice that a grid permits, against the way of a whole prediction; which spacings are tried."""

import pytest
import torch
from torch.nn import functional as F

from pyro_dwp.data import Preprocess
from pyro_dwp.intake import permitted_dice
from pyro_dwp.intake.resolution import spacings
from pyro_dwp.metrics import dice


def brute_force(scan, spacing, classes):
    """Bring the whole scan to the grid and the one-hot labels back, as a perfect network's prediction is."""
    preprocess = Preprocess(spacing=spacing, crop_to_head=False)
    prepared = preprocess.apply(scan, classes)
    shares = F.one_hot(prepared.label, classes).movedim(-1, 0).float()
    return dice(preprocess.restore(shares, prepared).argmax(0), scan.label)


@pytest.mark.parametrize("edge", [1.5, 2.0, 3.0, 4.0])
def test_the_surroundings_of_the_foreground_say_what_the_whole_scan_says(make, edge):
    scan = make("a", radius=9.0, shape=(48, 48, 48), values=(1, 2))
    found = permitted_dice(scan, (edge,) * 3, None, None, 3)
    expected = brute_force(scan, (edge,) * 3, 3)
    assert found == pytest.approx({str(label): value for label, value in expected.items()}, abs=0.02)


def test_the_scans_own_spacing_permits_everything(make):
    scan = make("a", spacing=(1.0, 1.5, 3.0))
    assert permitted_dice(scan, scan.spacing, None, None, 2) == {"1": 1.0}


def test_a_coarser_grid_permits_less_of_a_small_lesion(make):
    large, small = make("a", radius=9.0), make("b", radius=2.0)
    found = [permitted_dice(scan, (edge,) * 3, None, None, 2)["1"] for scan in (large, small) for edge in (2.0, 4.0)]
    assert found[0] > found[1] > found[3]
    assert found[0] > found[2] > found[3]


def test_structures_are_scored_as_unions_of_stored_labels(make):
    scan = make("a", values=(2, 4))
    found = permitted_dice(scan, (1.0, 1.0, 1.0), {2: 1, 4: 2}, {"whole": [2, 4], "core": [4]}, 3)
    assert found == {"whole": 1.0, "core": 1.0}
    assert permitted_dice(make("b", values=(2,)), (1.0,) * 3, {2: 1, 4: 2}, {"whole": [2, 4], "core": [4]}, 3) == {
        "whole": 1.0
    }


def test_spacings_run_from_coarse_to_the_scans_own_and_keep_thick_slices():
    found = spacings((1.0, 1.0, 5.0), (192.0, 240.0, 150.0))
    assert found[-1] == (1.0, 1.0, 5.0)
    assert all(edges[2] == 5.0 for edges in found)
    assert found == sorted(found, reverse=True)
    assert max(found[0][:2]) <= 5.0
    assert torch.tensor(found).diff(dim=0).le(0).all()
