"""The whole method as a notebook uses it: on arrays and on files, as run/svi_target.py does it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from guides import MeanField
from models import Segmenter
from pyro_dwp.data import Folder, Phantoms, Scan, write_volume
from pyro_dwp.data.arrays import Arrays
from pyro_dwp.errors import CheckpointError, ConfigError, Interrupted
from pyro_dwp.metrics import dice
from pyro_dwp.priors import Gaussian
from pyro_dwp.runs import load_posterior
from pyro_dwp.train import History
from tests.helpers.refusal import refuses
from tests.run.conftest import call, finished  # noqa: F401 (fixtures)

PHANTOMS = Phantoms(cases=8, shape=(16, 16, 12))
SCANS = [PHANTOMS.load(name) for name in PHANTOMS.names()]
SPACING = (1.0, 1.0, 2.0)
SMALL = {"network": {"channels": [2, 4]}, "schedule": {"steps": 4}, "samples": 2, "threads": 1}
FLAGS = ["--network.channels", "[2,4]", "--schedule.steps", "4", "--samples", "2", "--prior", "gaussian"]
PNG = b"\x89PNG"


def segmenter(**settings: object) -> Segmenter:
    return Segmenter(Gaussian(), MeanField, **SMALL | settings)


@pytest.fixture(scope="module")
def cases() -> Arrays:
    names = [f"patient {number}" for number in range(len(SCANS))]
    return Arrays([scan.image for scan in SCANS], [scan.label for scan in SCANS], SPACING, names)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantoms as files, a folder of images and one of labels."""
    place = tmp_path_factory.mktemp("scans")
    affine = np.diag([*SPACING, 1.0])
    for scan in SCANS:
        write_volume(place / "images" / f"{scan.name}.nii.gz", scan.image[0], affine, np.float32)
        write_volume(place / "labels" / f"{scan.name}.nii.gz", scan.label, affine, np.uint8)
    return place


@pytest.fixture(scope="module")
def fitted(cases: Arrays) -> Segmenter:
    found = segmenter()
    found.fit(cases)
    return found


def test_a_notebook_predicts_what_the_script_and_its_run_predict(folder, finished, tmp_path, monkeypatch) -> None:  # noqa: F811
    finished(tmp_path, "svi_target", "--data", folder, *FLAGS, "--threads", "1", "--name", "it")
    monkeypatch.chdir(tmp_path)
    found = segmenter()
    found.fit(Folder(folder))
    run = load_posterior("runs/it")
    assert found.calibration == run.calibration
    scan = folder / "images" / f"{SCANS[3].name}.nii.gz"
    ours, theirs = found.predict(scan), run.predictor().predict(str(scan))
    assert torch.equal(ours.probability, theirs.probability)
    assert torch.equal(ours.mutual_information, theirs.mutual_information)
    assert len(run.predictor(samples=3).predict(scan).volumes) == 3


def test_a_path_an_array_and_a_scan_are_predicted_alike(fitted: Segmenter, cases: Arrays, folder: Path) -> None:
    scan = SCANS[0]
    path = folder / "images" / f"{scan.name}.nii.gz"
    forms = (str(path), [path], cases.load("patient 0"))
    expected = fitted.predict(scan.image[0].numpy(), spacing=SPACING)
    assert all(torch.equal(fitted.predict(form).probability, expected.probability) for form in forms)


def test_what_is_set_wins_and_the_rest_is_chosen_to_fit(cases: Arrays, capsys: pytest.CaptureFixture[str]) -> None:
    found = segmenter(preprocess={"spacing": (2, 2, 2)}, validation=1, test=3, likelihood="categorical")
    found.fit(cases)
    assert found.predictor.preprocess.spacing == (2, 2, 2)
    assert tuple(map(len, (found.split.train, found.split.validation, found.split.test))) == (4, 1, 3)
    assert found.calibration.cases == 1
    assert len(found.history.rows) == 2  # 4 steps of two scans
    assert "8 labelled scans" in capsys.readouterr().out


def test_channels_and_classes_are_those_of_the_cases() -> None:
    images = [torch.cat([scan.image, -scan.image]) for scan in SCANS[:3]]
    labels = [scan.label * 4 for scan in SCANS[:3]]
    for label in labels:
        label[7:9, 7:9, 5:7] = 2
    found = segmenter()
    found.fit(Arrays(images, labels, SPACING))
    assert found.predictor.preprocess.label_map == {2: 1, 4: 2}
    assert found.predict(images[0], SPACING).probability.shape == (3, 16, 16, 12)
    with refuses("1 channel(s)", "learned from 2"):
        found.predict(SCANS[0])


def test_scores_are_those_of_the_masks_on_the_test_scans_or_on_cases_that_are_named(
    fitted: Segmenter, cases: Arrays
) -> None:
    def score(name: str) -> float:
        scan = cases.load(name)
        return dice(fitted.predict(scan).mask, scan.label)[1]

    found = fitted.score()
    assert {name: row["dice"] for name, row in found.table.cases.items()} == {
        name: pytest.approx(score(name)) for name in fitted.split.test
    }
    assert list(fitted.score(cases, ["patient 2"]).table.cases) == ["patient 2"]
    assert len(fitted.score(cases).table.cases) == len(SCANS)


def test_a_notebook_shows_the_prediction_beside_a_truth_if_there_is_one_and_the_training(
    fitted: Segmenter, cases: Arrays, tmp_path: Path
) -> None:
    scan = cases.load("patient 1")
    drawn = fitted.show(scan, fitted.predict(scan))
    bare = fitted.show(scan.image, spacing=SPACING)
    titles = [[axes.get_title() for axes in it.figure.axes if axes.get_title()] for it in (drawn, bare)]
    assert titles == [["Scan", "Truth", "Prediction", "Uncertainty"], ["Scan", "Prediction", "Uncertainty"]]
    assert all(it._repr_png_().startswith(PNG) for it in (drawn, bare, fitted.show_training()))
    assert drawn.save(tmp_path / "figures" / "case.png").read_bytes().startswith(PNG)


def test_a_checkpoint_is_kept_only_where_it_is_asked_for_and_continues_the_training(
    cases: Arrays, fitted: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    segmenter().fit(cases)
    assert not list(tmp_path.iterdir())
    segmenter(schedule={"steps": 2, "factor": 1, "patience": 9}).fit(cases, "kept")
    with refuses("kept", error=CheckpointError):
        segmenter().fit(cases, "kept")
    again = segmenter()
    again.fit(cases, "kept", resume=True)
    assert len(again.history.rows) == len(fitted.history.rows)
    assert torch.equal(again.predict(SCANS[0]).probability, fitted.predict(SCANS[0]).probability)


def test_a_training_that_is_stopped_says_that_nothing_was_kept_and_leaves_the_former_one(
    fitted: Segmenter, cases: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = fitted.predictor

    def stop(*_: object) -> History:
        raise Interrupted("Stopped in epoch 1.")

    monkeypatch.setattr("models.segmenter.fit", stop)
    with pytest.raises(Interrupted, match=r"nothing was kept.*folder"):
        fitted.fit(cases)
    with pytest.raises(Interrupted, match="epoch 1"):
        fitted.fit(cases, "kept")
    assert fitted.predictor is before


def test_mistakes_are_named(fitted: Segmenter, folder: Path) -> None:
    two = Scan("two", torch.rand(2, 16, 16, 12), None, np.eye(4))
    with refuses("fit(cases)", error=ConfigError):
        segmenter().predict(two)
    with refuses("Train first", error=ConfigError):
        segmenter().show_training()
    with refuses("2 channel(s)", "learned from 1"):
        fitted.predict(two)
    with refuses("spacing=(1, 1, 3)", error=ConfigError):
        fitted.predict(two.image)
    with refuses("8 scans", "one"):
        fitted.predict(folder / "images")
    with refuses("sampels", "samples", error=ConfigError):
        segmenter(sampels=3)
    with refuses("schedule.setps", "steps", error=ConfigError):
        segmenter(schedule={"setps": 3})
