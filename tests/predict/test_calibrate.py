"""Temperatures and volumes that are known, found again."""

import math
from dataclasses import replace

import pytest
import torch

from pyro_dwp.data import Phantoms, Preprocess
from pyro_dwp.metrics import dice, negative_log_likelihood, tempered, volume_residual
from pyro_dwp.predict import Calibration, Predictor, calibrate, fit_temperature, review_case
from tests.helpers.refusal import refuses

PHANTOMS = Phantoms(cases=4, shape=(12, 12, 12))


def draw():
    """A network that is too sure that bright voxels are lesion, by a factor that is drawn."""
    weight = 4 + 4 * torch.rand(())
    return lambda x: torch.cat([torch.zeros_like(x), weight * (x - 1)], dim=1)


@pytest.mark.parametrize("temperature", [0.4, 1.7, 4.0])
def test_labels_drawn_from_tempered_probabilities_give_the_temperature_back(temperature):
    """100,000 labels of three classes; the standard error is the inverse root of their information about log T."""
    generator = torch.Generator().manual_seed(0)
    p = (2 * torch.randn(3, 100_000, generator=generator)).softmax(0)
    q = tempered(p, temperature)
    truth = torch.multinomial(q.T, 1, generator=generator)[:, 0]
    logarithm = p.log() / temperature
    information = (q * logarithm.square()).sum() - (q * logarithm).sum(
        0
    ).square().sum()  # variances of the logits, summed
    found = fit_temperature([(p[:, :30_000], truth[:30_000]), (p[:, 30_000:], truth[30_000:])])
    assert math.log(found / temperature) == pytest.approx(0, abs=4 * 1.2 / float(information) ** 0.5 + 1e-4)


def test_what_is_always_right_and_certain_stays_as_it_is():
    assert fit_temperature([(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1]))]) == 1


def test_calibration_lowers_the_loss_of_validation_scans_and_changes_no_mask():
    names, predictor = PHANTOMS.names(), Predictor(draw, Preprocess(grid=(8, 8, 8)), samples=3)
    found = calibrate(predictor, PHANTOMS, names)
    cured = replace(predictor, temperature=found.temperature)
    losses = {predictor: 0.0, cured: 0.0}
    for scan in map(PHANTOMS.load, names):
        before, after = predictor.predict(scan), cured.predict(scan)
        assert torch.equal(before.mask, after.mask)
        assert torch.equal(before.volumes, after.volumes)
        assert (after.mutual_information <= after.entropy).all()
        for each, prediction in ((predictor, before), (cured, after)):
            losses[each] += negative_log_likelihood(prediction.probability, scan.label)
    assert losses[cured] < losses[predictor]
    assert calibrate(cured, PHANTOMS, names) == found


def test_residuals_are_those_of_each_structures_volume():
    preprocess = Preprocess(structures={"lesion": [1]})
    predictor = Predictor(draw, preprocess, samples=3)
    found = calibrate(predictor, PHANTOMS, PHANTOMS.names()[:2])
    expected = []
    for name in PHANTOMS.names()[:2]:
        scan = PHANTOMS.load(name)
        voxel = math.prod(scan.spacing) / 1000
        predicted = float(predictor.predict(scan).volumes[:, 1].mean()) * voxel
        expected.append(volume_residual(int((scan.label == 1).sum()) * voxel, predicted))
    assert found.volume_residuals == {"lesion": pytest.approx(expected)}
    assert found.coverage == pytest.approx(2 / 3)


def test_the_ratio_of_dice_is_of_true_to_predicted_before_any_temperature_with_two_scans_that_met_it():
    names = PHANTOMS.names()[:3]
    predictor = Predictor(draw, Preprocess(), samples=3, temperature=3.0)
    true, expected = [], []
    for name in names:
        scan = PHANTOMS.load(name)
        raw = replace(predictor, temperature=1.0).predict(scan)
        expected.append(review_case(scan, raw, {"1": (1,)}, Calibration()).scores["predicted_dice"])
        true.append(dice(raw.mask, scan.label)[1])
    met = sum(expected) / len(expected)
    assert calibrate(predictor, PHANTOMS, names).dice_ratios == {
        "1": pytest.approx((sum(true) + 2 * met) / (sum(expected) + 2 * met))
    }


def test_a_calibration_is_read_as_it_was_written_and_without_a_file_or_scans_there_is_none(tmp_path):
    found = Calibration(temperature=1.0 / 3.0, cases=2, volume_residuals={"1": [0.1, 0.2]})
    assert Calibration.read(tmp_path) == Calibration() == calibrate(Predictor(draw, Preprocess()), PHANTOMS, [])
    found.write(tmp_path)
    assert Calibration.read(tmp_path) == found


@pytest.mark.parametrize(
    "stored", ["{", "[]", '{"temperature": 0}', '{"temperature": NaN}', '{"cases": 2, "volume_residuals": {"1": [0.5]}}',
               '{"volume_residuals": {"1": ["a"]}}', '{"other": 1}']
)  # fmt: skip
def test_a_damaged_calibration_is_refused(tmp_path, stored):
    (tmp_path / "calibration.json").write_text(stored)
    with refuses("calibration.json", "Restore it"):
        Calibration.read(tmp_path)
