"""Predict labelled cases, write their maps and score them, one case in memory at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from pyro_dwp.checks import checked_dataclass
from pyro_dwp.data import CaseSource, Split
from pyro_dwp.metrics import score_case
from pyro_dwp.predict.calibrate import Calibration, calibrate, checked_truth
from pyro_dwp.predict.evaluation import Evaluation, ScoredCase
from pyro_dwp.predict.output import MAPS, Maps, Precision, write_prediction
from pyro_dwp.predict.posterior import Samples
from pyro_dwp.predict.postprocess import Postprocess
from pyro_dwp.predict.review import coverage_scores, review_case, write_review
from pyro_dwp.predict.volumes import Predictor
from pyro_dwp.progress import track

SHOWN = 3  # cases that are kept for figures, spread evenly, so that nobody picks them by hand


def score_cases(
    predictor: Predictor,
    source: CaseSource,
    names: Sequence[str],
    folder: Path | None = None,
    maps: Maps = MAPS,
    map_precision: Precision = "uint8",
    calibration: Calibration | None = None,
) -> Iterator[ScoredCase]:
    """Predict cases on their own grids and score them against their labels, structure by structure.

    Args:
        predictor: whose preprocessing has the label map that is applied to the truth, and the structures.
        source: of the cases.
        names: of those to predict.
        folder: where masks and maps are written; None writes nothing.
        maps: kinds of map that are written beside the masks.
        map_precision: of these maps.
        calibration: of the intervals of volumes; its temperature is the predictor's affair.

    Raises:
        DataError: if a case has no label, or a class that the network does not know.
    """
    preprocess = predictor.preprocess
    for name in names:
        scan = source.load(name)
        prediction = predictor.predict(scan)
        classes = len(prediction.probability)
        truth = checked_truth(predictor, scan, classes)
        if folder is not None:
            write_prediction(folder, prediction, scan, preprocess, maps, map_precision)
        structures = preprocess.classes_of_structures(classes)
        scores = score_case(prediction.mask, truth, classes, prediction.probability, structures, scan.spacing)
        review = review_case(scan, prediction, structures, calibration or Calibration())
        members = {name: torch.isin(truth, torch.tensor(chosen)) for name, chosen in structures.items()}
        volumes = {name: int(inside.sum()) * scan.voxel_ml for name, inside in members.items()}
        known = review.scores | coverage_scores(review.scores, volumes, scan.voxel_ml)
        legend = preprocess.class_names(classes)
        case = ScoredCase(scan, truth, prediction, structures, scores | known, review, legend).shelve()
        del scan, truth, prediction, members  # before the next case is read
        yield case


@checked_dataclass
class Scoring:
    """How a run predicts and scores the scans that it did not learn from.

    Args:
        samples: networks drawn from the posterior to predict with.
        score: scans that are scored at the end; with validation the test scans are never predicted.
        postprocess: what is done to masks after the network; null leaves them as they are.
        maps: written beside the masks of these scans: any of probability, entropy, mutual_information and structure_entropy.
        map_precision: of these maps: 8 bits, 1/255 of the largest value a step, or exact values.
        calibrate: fit a temperature of the probabilities, and intervals of volumes, on the validation scans; needs some that are
            not scored themselves.
    """

    samples: Samples = 10
    score: Literal["test", "validation"] = "test"
    postprocess: Postprocess | None = None
    maps: Maps = ("entropy",)
    map_precision: Precision = "uint8"
    calibrate: bool = True

    def evaluate(self, predictor: Predictor, source: CaseSource, split: Split, folder: Path) -> Evaluation:
        """Calibrate a predictor, predict the held-out scans with it and score them, showing progress.

        Masks and maps go to predictions/ in the folder, and with them calibration.json and review.csv beside it.

        Args:
            predictor: of the run.
            source: of the cases.
            split: whose validation scans calibrate, and whose held-out part is scored.
            folder: of the run.
        """
        names = split.held_out(self.score)
        calibration = calibrate(predictor, source, split.validation if self.calibrate and self.score == "test" else ())
        calibration.write(folder)
        fitted = replace(predictor, temperature=calibration.temperature)
        cases = score_cases(fitted, source, names, folder / "predictions", self.maps, self.map_precision, calibration)
        places = {*range(0, len(names), max(1, len(names) // SHOWN))[:SHOWN]}
        found = Evaluation(self.score, predictor.samples, calibration)
        for number, case in enumerate(track(cases, f"{self.score} scans", total=len(names))):
            found.add(case, show=number in places)
        write_review(folder, found.review)
        return found
