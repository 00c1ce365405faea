"""What a prediction says about itself, voxel by voxel; where to look; and what a few held-out scans say of that."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from pyro_dwp.data import Phantoms, Preprocess, Scan, Split
from pyro_dwp.metrics import dice, entropy, tempered
from pyro_dwp.predict import (
    Calibration,
    Postprocess,
    Prediction,
    Predictor,
    Scoring,
    describe_review,
    describe_validity,
    pooled_validity,
    review_case,
    score_cases,
    validity,
    write_review,
)
from pyro_dwp.predict.review import coverage_scores
from tests.helpers.refusal import refuses

STRUCTURES = {"whole": (1, 2), "core": (2,)}


def a_case(name: str = "a", seed: int = 0, shape: tuple[int, ...] = (4, 5, 6)) -> tuple[Scan, Prediction]:
    """A scan with voxels of 1 x 3 x 2 mm, and a prediction of three classes for it."""
    generator = torch.Generator().manual_seed(seed)
    p = (3 * torch.randn(3, *shape, generator=generator)).softmax(0)
    volumes = p.double().flatten(1).sum(1) * torch.rand(20, 3, generator=generator)
    scan = Scan(name, torch.zeros(1, *shape), None, np.diag([1.0, 3.0, 2.0, 1.0]))
    return scan, Prediction(p, entropy(p), 0 * p[0], volumes)


def test_the_predicted_dice_of_certain_probabilities_is_the_dice_of_what_is_certain() -> None:
    scan, prediction = a_case()
    certain = torch.nn.functional.one_hot(prediction.mask, 3).movedim(-1, 0).float()
    scores = review_case(scan, Prediction(certain, certain[0], certain[0]), STRUCTURES, Calibration()).scores
    assert scores["predicted_dice"] == scores["predicted_dice_core"] == 1
    nothing = torch.stack([torch.ones(4, 5, 6), torch.zeros(4, 5, 6), torch.zeros(4, 5, 6)])
    scores = review_case(scan, Prediction(nothing, nothing[1], nothing[1]), STRUCTURES, Calibration()).scores
    assert scores["predicted_dice"] == 1
    assert scores["predicted_dice_whole"] is None


def test_the_predicted_dice_is_that_of_truths_drawn_from_the_probabilities() -> None:
    """2,000 draws of independent voxels; the ratio of expectations is then within 0.005 of the expected ratio."""
    scan, prediction = a_case()
    expected = review_case(scan, prediction, STRUCTURES, Calibration()).scores
    draws = torch.multinomial(prediction.probability.flatten(1).T, 2000, replacement=True).T
    for name, classes in STRUCTURES.items():
        members = torch.tensor(classes)
        mask = torch.isin(prediction.mask.flatten(), members).long()
        found = torch.tensor([dice(mask, torch.isin(draw, members).long())[1] for draw in draws])
        assert float(found.mean()) == pytest.approx(expected[f"predicted_dice_{name}"], abs=0.005)


def test_a_temperature_leaves_the_predicted_dice_and_ratios_of_validation_scans_multiply_it() -> None:
    scan, raw = a_case()
    expected = review_case(scan, raw, STRUCTURES, Calibration()).scores
    flatter = replace(raw, probability=tempered(raw.probability, 2.5))
    found = review_case(scan, flatter, STRUCTURES, Calibration(temperature=2.5, dice_ratios={"core": 0.5})).scores
    assert found["predicted_dice_whole"] == pytest.approx(expected["predicted_dice_whole"], rel=1e-4)
    assert found["predicted_dice_core"] == pytest.approx(expected["predicted_dice_core"] / 2, rel=1e-4)
    assert found["predicted_dice"] == pytest.approx((found["predicted_dice_whole"] + found["predicted_dice_core"]) / 2)


@pytest.mark.parametrize("axis", range(3))
def test_the_slices_to_look_at_hold_the_most_expected_error_across_the_widest_spacing(axis: int) -> None:
    scan, prediction = a_case()
    spacing = [3.0 if number == axis else 1.0 + number / 4 for number in range(3)]
    scan = replace(scan, affine=np.diag([*spacing, 1.0]))
    review = review_case(scan, prediction, STRUCTURES, Calibration())
    others = [number for number in range(3) if number != axis]
    wrong = (1 - prediction.probability.amax(0)).sum(others) * np.prod(spacing) / 1000
    order, name = wrong.argsort(descending=True)[:5].tolist(), ("left-right", "back-front", "foot-head")[axis]
    assert [(found.axis, found.index) for found in review.slices] == [(name, index) for index in order]
    assert [found.wrong_ml for found in review.slices] == pytest.approx(wrong[order].tolist())
    assert review.wrong_ml == pytest.approx(float(wrong.sum()))


def test_volumes_have_the_calibrated_interval_first_and_the_posteriors_beside_it() -> None:
    scan, prediction = a_case()
    samples = prediction.volumes[:, 1:].sum(1) * 6 / 1000
    residuals = {"whole": [0.5, 1.0], "core": [0.1, 0.2]}
    scores = review_case(scan, prediction, STRUCTURES, Calibration(cases=2, volume_residuals=residuals)).scores
    mean = float(samples.mean())
    assert scores["predicted_volume_ml_whole"] == pytest.approx(mean)
    assert scores["volume_high_ml_whole"] == pytest.approx((mean + 0.1) * np.e - 0.1)
    ends = [scores[f"posterior_volume_{end}_ml_whole"] for end in ("low", "high")]
    assert ends == pytest.approx(np.quantile(samples, [0.05, 0.95], method="weibull").tolist())
    scores = review_case(scan, prediction, STRUCTURES, Calibration()).scores
    assert scores["volume_low_ml_whole"] == pytest.approx(ends[0])


def test_cases_come_in_the_order_of_their_predicted_dice(tmp_path) -> None:
    reviews = [review_case(*a_case(name, seed), {"all": (1, 2)}, Calibration()) for seed, name in enumerate("abcd")]
    order = sorted("abcd", key=lambda name: reviews["abcd".index(name)].scores["predicted_dice"])
    lines = describe_review(reviews).splitlines()
    assert [line.strip()[0] for line in lines[1:]] == order
    rows = list(csv.DictReader(write_review(tmp_path, reviews).read_text().splitlines()))
    assert [row["case"] for row in rows] == order
    first = reviews["abcd".index(order[0])]
    assert float(rows[0]["predicted_volume_ml"]) == pytest.approx(first.scores["predicted_volume_ml"], rel=1e-5)
    assert [int(number) - 1 for number in rows[0]["slices"].split()] == [found.index for found in first.slices]
    assert max(map(len, rows[0].values())) < 20


@pytest.fixture
def scored(tmp_path):
    """Eight phantoms scored after two others calibrated, in a folder."""
    source = Phantoms(cases=10, shape=(10, 10, 10))
    draw = lambda: lambda x: torch.cat([0 * x, (2 + torch.rand(())) * (x - 1)], dim=1)  # noqa: E731
    names = source.names()
    split = Split((), tuple(names[:2]), tuple(names[2:]))
    found = Scoring(samples=3, maps=()).evaluate(Predictor(draw, Preprocess(), samples=3), source, split, tmp_path)
    (tmp_path / "metrics.json").write_text(json.dumps(found.to_dict(), allow_nan=False))
    return found


def test_the_maps_of_three_cases_are_kept_however_many_there_are(scored) -> None:
    assert len(scored.shown) == 3
    assert len(scored.table.cases) == len(scored.review) == 8


def test_a_case_that_is_kept_has_its_processed_mask_in_a_file_too(monkeypatch) -> None:
    monkeypatch.setattr("pyro_dwp.data.shelf.LARGE", 64)
    source, bright = Phantoms(cases=1, shape=(10, 10, 10)), lambda: lambda x: torch.cat([0 * x, x - 1], dim=1)
    predictor = Predictor(bright, Preprocess(), samples=1, postprocess=Postprocess(largest=True))
    (case,) = score_cases(predictor, source, source.names())
    assert case.prediction.processed.dtype == torch.uint8
    assert torch.equal(case.prediction.mask.long(), predictor.predict(source.load(source.names()[0])).mask)


def test_a_run_and_that_run_twice_are_equally_valid(scored, tmp_path) -> None:
    own = json.loads((tmp_path / "metrics.json").read_text())["validity"]
    assert own == scored.validity()
    assert own["volume"]["nominal"] == pytest.approx(2 / 3)
    assert own["posterior_volume"]["nominal"] == pytest.approx(1 / 2)
    covered = [row["volume_covered"] for row in scored.table.cases.values()]
    assert own["volume"]["coverage"] == pytest.approx(sum(covered) / 8)
    for key, values in pooled_validity([tmp_path, tmp_path]).items():
        assert values == pytest.approx(own[key])
    (tmp_path / "metrics.json").write_text('{"test": {"cases": {"a": {"dice": 1}}}}')
    with refuses("metrics.json", "run/score.py"):
        pooled_validity([tmp_path])


def test_an_absent_structure_is_covered_by_volumes_that_are_almost_0() -> None:
    ends = {f"{kind}_{end}_ml": 1e-9 for kind in ("volume", "posterior_volume") for end in ("low", "high")}
    for true, covered in ((0.0, 1.0), (0.002, 0.0)):
        found = coverage_scores(ends, {"lesion": true}, voxel_ml=0.001)
        assert (found["volume_covered"], found["posterior_volume_covered"]) == (covered, covered)


def test_each_of_several_structures_has_its_own_coverage(tmp_path) -> None:
    calibration = Calibration(cases=1, volume_residuals={"whole": [5.0], "core": [0.0]})
    table = {}
    for seed, name in enumerate("abc"):
        scores = review_case(*a_case(name, seed), STRUCTURES, calibration).scores
        true = {structure: 2 * scores[f"predicted_volume_ml_{structure}"] for structure in STRUCTURES}
        table[name] = scores | coverage_scores(scores, true) | {"dice": seed / 2}
    found = validity([table], {"volume": 0.5, "posterior_volume": 0.8})
    kinds = [f"{kind}_{name}" for kind in ("volume", "posterior_volume") for name in STRUCTURES]
    assert found.keys() == {"predicted_dice", *kinds}
    assert (found["volume_whole"]["coverage"], found["volume_core"]["coverage"]) == (1, 0)
    assert (found["volume_core"]["nominal"], found["posterior_volume_core"]["nominal"]) == (0.5, 0.8)
    text = describe_validity(found)
    assert "reported interval of the volume of whole holds the true volume in 1.00" in text
    assert "posterior interval of the volume of core holds" in text
    two = validity([{name: table[name] for name in "ab"}], {"volume": 0.5, "posterior_volume": 0.8})
    assert "too few" in describe_validity(two)
    assert [key for key in found if key.startswith("volume")] == ["volume_whole", "volume_core"]  # as in the table
