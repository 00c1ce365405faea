import numpy as np
import pytest
import torch

from pyro_dwp.data import Phantoms, read_scan, write_volume
from pyro_dwp.errors import ConfigError, DataError

DISEASES = ["tumour", "plaques"]
SMALL = (16, 18, 14)


def best_threshold_dice(image: torch.Tensor, truth: torch.Tensor) -> float:
    """Return the best Dice that marking everything above one intensity reaches, knowing the truth."""
    levels = torch.quantile(image[image > 0], torch.linspace(0.3, 0.99, 40))
    masks = [image > level for level in levels]
    return max(float(2 * (mask & truth).sum() / (mask.sum() + truth.sum())) for mask in masks)


@pytest.mark.parametrize("disease", DISEASES)
def test_a_case_does_not_depend_on_what_was_loaded_before(disease) -> None:
    first, second = Phantoms(disease, 3, SMALL), Phantoms(disease, 5, SMALL)
    expected = [first.load(name) for name in first.names()]
    torch.manual_seed(99)
    for scan in reversed(expected):
        again = second.load(scan.name)
        assert torch.equal(again.image, scan.image)
        assert torch.equal(again.label, scan.label)


@pytest.mark.parametrize("disease", DISEASES)
def test_the_global_random_state_stays_as_it_is(disease) -> None:
    torch.manual_seed(0)
    np_before, before = np.random.get_state()[1].copy(), torch.get_rng_state()
    Phantoms(disease, 1, SMALL).load(f"{disease}_000")
    assert torch.equal(before, torch.get_rng_state())
    assert (np_before == np.random.get_state()[1]).all()


def test_another_seed_is_another_head() -> None:
    one, two = (Phantoms(seed=seed, shape=SMALL).load("tumour_000").image for seed in (0, 1))
    assert not torch.equal(one > 0, two > 0)


@pytest.mark.parametrize("disease", DISEASES)
def test_every_case_has_a_lesion_inside_the_head_and_air_around_it(disease) -> None:
    phantoms = Phantoms(disease, cases=12, shape=SMALL)
    for name in phantoms.names():
        scan = phantoms.load(name)
        assert scan.image.shape == (1, *SMALL)
        assert scan.image.dtype == torch.float32
        assert scan.image.isfinite().all()
        assert 0 < scan.label.sum() < 0.1 * scan.label.numel()
        assert scan.label.max() == 1
        assert (scan.image[0][scan.label == 1] > 0).all()
        assert 0.1 < (scan.image == 0).float().mean() < 0.9


@pytest.mark.parametrize("disease", DISEASES)
def test_no_threshold_finds_the_lesion(disease) -> None:
    phantoms = Phantoms(disease, cases=8)
    scans = [phantoms.load(name) for name in phantoms.names()]
    scores = [best_threshold_dice(scan.image[0], scan.label == 1) for scan in scans]
    assert np.mean(scores) < 0.45


def test_tumours_are_larger_than_all_plaques_of_a_head_together() -> None:
    volumes = {
        disease: np.mean([float(source.load(name).label.sum()) for name in source.names()])
        for disease in DISEASES
        for source in [Phantoms(disease, cases=8)]
    }
    assert volumes["tumour"] > 1.5 * volumes["plaques"]


def test_the_affine_carries_the_spacing_and_centres_the_head(tmp_path) -> None:
    scan = Phantoms(shape=SMALL, spacing=(5.0, 6.0, 7.0)).load("tumour_000")
    assert scan.spacing == (5.0, 6.0, 7.0)
    np.testing.assert_allclose(scan.affine @ [7.5, 8.5, 6.5, 1], [0, 0, 0, 1], atol=1e-12)
    stored = read_scan("a", [write_volume(tmp_path / "a.nii.gz", scan.image[0], scan.affine)])
    assert torch.equal(stored.image, scan.image)
    assert np.array_equal(stored.affine, scan.affine)


def test_an_unknown_disease_names_the_legal_ones() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'tumour'"):
        Phantoms("tumor")


@pytest.mark.parametrize(
    "settings", [{"cases": 0}, {"shape": (4, 32, 32)}, {"spacing": (1.0, 0.0, 1.0)}, {"seed": -1}], ids=str
)
def test_settings_that_cannot_work_are_refused(settings) -> None:
    with pytest.raises(ConfigError, match="8 voxels or more"):
        Phantoms(**settings)


def test_an_unknown_case_is_named() -> None:
    with pytest.raises(DataError, match="tumour_000 to tumour_002"):
        Phantoms(cases=3).load("tumour_003")
