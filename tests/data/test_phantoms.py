import numpy as np
import pytest
import torch

from pyro_dwp.data import Phantoms, Scan, read_scan, write_volume
from pyro_dwp.errors import ConfigError
from tests.helpers.refusal import refuses

SMALL = (16, 18, 14)
both_diseases = pytest.mark.parametrize("disease", ["tumour", "plaques"])


def load_all(phantoms: Phantoms) -> list[Scan]:
    return [phantoms.load(name) for name in phantoms.names()]


def best_threshold_dice(image: torch.Tensor, truth: torch.Tensor) -> float:
    """Return the best Dice that marking everything above one intensity reaches, knowing the truth."""
    levels = torch.quantile(image[image > 0], torch.linspace(0.3, 0.99, 40))
    masks = [image > level for level in levels]
    return max(float(2 * (mask & truth).sum() / (mask.sum() + truth.sum())) for mask in masks)


@both_diseases
def test_a_case_depends_neither_on_earlier_ones_nor_on_the_global_random_state(disease) -> None:
    expected, second = load_all(Phantoms(disease, 3, SMALL)), Phantoms(disease, 5, SMALL)
    torch.manual_seed(99)
    numpy_before, before = np.random.get_state()[1].copy(), torch.get_rng_state()
    for scan in reversed(expected):
        again = second.load(scan.name)
        assert torch.equal(again.image, scan.image)
        assert torch.equal(again.label, scan.label)
    assert torch.equal(before, torch.get_rng_state())
    assert (numpy_before == np.random.get_state()[1]).all()
    with refuses(f"{disease}_005", f"{disease}_000 to {disease}_004"):
        second.load(f"{disease}_005")
    other = Phantoms(disease, 1, SMALL, seed=1).load(expected[0].name)
    assert not torch.equal(other.image > 0, expected[0].image > 0)


@both_diseases
def test_every_case_has_a_lesion_inside_the_head_and_air_around_it(disease) -> None:
    for scan in load_all(Phantoms(disease, cases=12, shape=SMALL)):
        assert (scan.image.shape, scan.image.dtype) == ((1, *SMALL), torch.float32)
        assert scan.image.isfinite().all()
        assert 0 < scan.label.sum() < 0.1 * scan.label.numel()
        assert scan.label.max() == 1
        assert (scan.image[0][scan.label == 1] > 0).all()
        assert 0.1 < (scan.image == 0).float().mean() < 0.9


def test_no_threshold_finds_the_lesion_and_tumours_are_larger_than_all_plaques_of_a_head_together() -> None:
    volumes = {}
    for disease in ("tumour", "plaques"):
        scans = load_all(Phantoms(disease, cases=8))
        assert np.mean([best_threshold_dice(scan.image[0], scan.label == 1) for scan in scans]) < 0.45
        volumes[disease] = sum(scan.label.sum() for scan in scans)
    assert volumes["tumour"] > 1.5 * volumes["plaques"]


def test_the_affine_carries_the_spacing_and_centres_the_head(tmp_path) -> None:
    scan = Phantoms(shape=SMALL, spacing=(5.0, 6.0, 7.0)).load("tumour_000")
    assert scan.spacing == (5.0, 6.0, 7.0)
    np.testing.assert_allclose(scan.affine @ [7.5, 8.5, 6.5, 1], [0, 0, 0, 1], atol=1e-12)
    stored = read_scan("a", [write_volume(tmp_path / "a.nii.gz", scan.image[0], scan.affine)])
    assert torch.equal(stored.image, scan.image)
    assert np.array_equal(stored.affine, scan.affine)


def test_a_flat_case_is_the_slice_with_most_lesion_at_its_place_in_mm() -> None:
    heads, images = (load_all(Phantoms(cases=3, shape=SMALL, flat=flat)) for flat in (False, True))
    for head, image in zip(heads, images, strict=True):
        sums = head.label.sum((0, 1))
        found = int(np.linalg.inv(head.affine)[2] @ image.affine @ [0, 0, 0, 1])
        assert image.shape == (*SMALL[:2], 1)
        assert sums[found] == sums.max() == image.label.sum()
        assert torch.equal(image.image[..., 0], head.image[..., found])
        assert np.array_equal(image.affine[:2], head.affine[:2])


BAD = [{"disease": "tumor"}, {"cases": 0}, {"cases": 10**8}, {"seed": -1}]
BAD += [{"shape": shape} for shape in ((4, 32, 32), (32, 32, 10**5))]
BAD += [{"spacing": (1.0, edge, 1.0)} for edge in (0.0, float("nan"), float("inf"))]


@pytest.mark.parametrize("settings", BAD, ids=str)
def test_settings_that_cannot_work_are_refused(settings) -> None:
    with refuses(*settings, *(["Did you mean 'tumour'"] if "disease" in settings else []), error=ConfigError):
        Phantoms(**settings)
