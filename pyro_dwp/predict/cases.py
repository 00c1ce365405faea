"""Predict labelled cases, write their maps and score them, one case in memory at a time."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from rich.progress import track
from torch import Tensor

from pyro_dwp.checks import checked_dataclass
from pyro_dwp.data import CaseSource, Preprocess, Scan, Split, check_labels, labels_of_classes
from pyro_dwp.errors import DataError
from pyro_dwp.metrics import CaseTable, score_case
from pyro_dwp.nn.windows import Network
from pyro_dwp.predict.output import write_prediction
from pyro_dwp.predict.posterior import Prediction, Samples
from pyro_dwp.predict.volumes import predict_scan


@dataclass(frozen=True)
class ScoredCase:
    """A labelled case on its own grid, its prediction and its scores.

    Args:
        scan: image (C, D, H, W).
        truth: classes after the label map, (D, H, W).
        prediction: maps on the scan's grid.
        scores: as `metrics.score_case` gives them; None for a label that the case does not have.
    """

    scan: Scan
    truth: Tensor
    prediction: Prediction
    scores: dict[str, float | None]


def score_cases(
    draw: Callable[[], Network],
    source: CaseSource,
    names: Sequence[str],
    preprocess: Preprocess,
    samples: int,
    seed: int,
    folder: Path | None = None,
    maps: bool = True,
    device: torch.device | str = "cpu",
    window: Sequence[int] | None = None,
) -> Iterator[ScoredCase]:
    """Predict cases on their own grids and score them against their labels.

    Scores of a class are named by its stored label if the label map can be inverted, as masks are written.

    Args:
        draw: returns one sampled network, see `posterior_predictive`.
        source: of the cases.
        names: of those to predict.
        preprocess: as in training; its label map is applied to the truth.
        samples: posterior samples S.
        seed: of the samples; every case sees the same networks.
        folder: where masks and maps are written; None writes nothing.
        maps: whether probability and uncertainty are written beside the masks.
        device: of the networks that `draw` returns.
        window: edges of a sliding window on the network's grid, voxels; None for the whole volume at once.

    Raises:
        DataError: if a case has no label, or a class that the network does not know.
    """
    for name in names:
        scan = source.load(name)
        truth = preprocess.mapped_label(scan)
        if truth is None:
            raise DataError(f"Case {name} has no label to score a prediction by. Name a folder of labels.")
        prediction = predict_scan(draw, scan, preprocess, samples, seed, window, device=device)
        classes = len(prediction.probability)
        check_labels(truth, classes, scan.label_place)
        if folder is not None:
            write_prediction(folder, prediction, scan, preprocess, maps)
        labels = labels_of_classes(preprocess.label_map, classes)
        found = prediction.probability, labels, scan.spacing, prediction.volumes
        scores = score_case(prediction.mask, truth, classes, *found)
        yield ScoredCase(scan, truth, prediction, scores)


def tabulate(cases: Iterable[ScoredCase], total: int, title: str, kept: int = 3) -> tuple[CaseTable, list[ScoredCase]]:
    """Collect the scores of cases, showing progress, and keep some of the cases for figures.

    Args:
        cases: such as `score_cases` yields.
        total: number of cases.
        title: of the progress bar.
        kept: number of cases to keep, spread evenly over all, so that nobody picks them by hand.

    Returns:
        The table of scores, and the cases kept.
    """
    table, shown, places = CaseTable(), [], set(range(0, total, max(1, total // kept))[:kept])
    for number, case in enumerate(track(cases, title, total=total)):
        table.add(case.scan.name, case.scores)
        shown += [case] if number in places else []
    return table, shown


@checked_dataclass
class Scoring:
    """How a run predicts and scores the scans that it did not learn from.

    Args:
        samples: networks drawn from the posterior to predict with.
        score: scans that are scored at the end; with validation the test scans are never predicted.
        maps: whether maps of probability and uncertainty are written beside the masks of these scans.
    """

    samples: Samples = 10
    score: Literal["test", "validation"] = "test"
    maps: bool = True

    def table(
        self,
        draw: Callable[[], Network],
        source: CaseSource,
        split: Split,
        preprocess: Preprocess,
        seed: int,
        folder: Path,
        device: torch.device | str = "cpu",
        window: Sequence[int] | None = None,
    ) -> tuple[CaseTable, list[ScoredCase]]:
        """Predict the scans, write the results to predictions/ in a folder, and score them, showing progress.

        Args:
            draw: returns one sampled network.
            source: of the cases.
            split: whose held-out part is scored.
            preprocess: as in training.
            seed: of the samples.
            folder: of the run.
            device: of the networks.
            window: edges of a sliding window on the network's grid, voxels; None for the whole volume at once.

        Returns:
            The table of scores, and a few cases for figures.
        """
        names, output = split.held_out(self.score), folder / "predictions"
        how = self.samples, seed, output, self.maps, device, window
        cases = score_cases(draw, source, names, preprocess, *how)
        return tabulate(cases, len(names), f"{self.score} scans")
