"""Predict labelled cases, write their maps and score them, one case in memory at a time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pyro_dwp.data import CaseSource, Preprocess, Scan, check_labels
from pyro_dwp.errors import DataError
from pyro_dwp.metrics import score_case
from pyro_dwp.predict.posterior import Prediction
from pyro_dwp.predict.volumes import predict_scan, write_prediction
from pyro_dwp.predict.windows import Network


@dataclass(frozen=True)
class ScoredCase:
    """A labelled case on its own grid, its prediction and its scores.

    Args:
        scan: image (C, D, H, W).
        truth: classes after the label map, (D, H, W).
        prediction: maps on the scan's grid.
        scores: as `metrics.score_case` gives them.
    """

    scan: Scan
    truth: Tensor
    prediction: Prediction
    scores: dict[str, float]


def score_cases(
    draw: Callable[[], Network],
    source: CaseSource,
    names: Sequence[str],
    preprocess: Preprocess,
    samples: int,
    seed: int,
    folder: Path | None = None,
    device: torch.device | str = "cpu",
) -> Iterator[ScoredCase]:
    """Predict cases on their own grids and score them against their labels.

    Args:
        draw: returns one sampled network, see `posterior_predictive`.
        source: of the cases.
        names: of those to predict.
        preprocess: as in training; its label map is applied to the truth.
        samples: posterior samples S.
        seed: of the samples; every case sees the same networks.
        folder: receives the maps as NIfTI; None writes nothing.
        device: of the networks that `draw` returns.

    Raises:
        DataError: if a case has no label, or a class that the network does not know.
    """
    for name in names:
        scan = source.load(name)
        truth = preprocess.mapped_label(scan)
        if truth is None:
            raise DataError(f"Case {name} has no label to score a prediction by. Name a folder of labels.")
        prediction = predict_scan(draw, scan, preprocess, samples, seed, device=device)
        classes = len(prediction.probability)
        check_labels(name, truth, classes)
        if folder is not None:
            write_prediction(folder, name, prediction, scan.affine)
        scores = score_case(prediction.mask, truth, classes, prediction.probability)
        yield ScoredCase(scan, truth, prediction, scores)
