"""What validation scans, from whose labels the weights did not learn, teach about a prediction's probabilities and volumes.

The temperature T makes p^(1/T), normalised, of the averaged probabilities as likely as can be: it minimises the negative
log-likelihood of the validation labels, the mean over scans of that over voxels. One number leaves every mask as it is. The
residuals of predicted volumes give intervals by split conformal prediction, see `metrics.volume`. The Dice that probabilities
before any temperature lead one to expect is too high: a ratio, true to expected over the scans, brings it down. (After a
temperature it would order scans worse, since the many voxels of a flattened background swamp a small structure.)

Validation scans may have set the learning rate or ended the training. That is the same loss for all of them and hardly makes them
easier than new scans; settings that were chosen by their scores could.

    calibration.json    {"temperature": T, "cases": n, "volume_residuals": {structure: n numbers},
                         "dice_ratios": {structure: factor}}

References:
    Guo, Pleiss, Sun, Weinberger 2017, On Calibration of Modern Neural Networks.
    Rahaman, Thiery 2021, Uncertainty Quantification and Deep Ensembles (pool first, then calibrate).
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from pyro_dwp.data import CaseSource, Scan, check_labels
from pyro_dwp.errors import DataError
from pyro_dwp.files import check_header, read_json, write_json
from pyro_dwp.metrics import FLOOR, conformal_interval, conformal_rank, predicted_dice, tempered, volume_residual
from pyro_dwp.predict.posterior import Prediction
from pyro_dwp.predict.volumes import Predictor
from pyro_dwp.progress import track

FILE = "calibration.json"
COLDEST, HOTTEST = 0.1, 10.0
HALFWAY = 2  # scans with which the ratio of Dice is halfway to what they say, so that one or two do not decide
VOXELS = 2**18  # of a scan, drawn with replacement where it has more


class Calibration(BaseModel):
    """What was learned from validation scans; without any, nothing is changed.

    Args:
        temperature: T, of `metrics.tempered`.
        cases: number n of validation scans.
        volume_residuals: structure → n residuals of its volume, see `metrics.volume_residual`.
        dice_ratios: structure → factor of its predicted Dice, from the scans whose mask has it, see `_dice_ratio`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    temperature: Annotated[float, Gt(0)] = 1.0
    cases: Annotated[int, Ge(0)] = 0
    volume_residuals: dict[str, list[Annotated[float, Ge(0)]]] = {}
    dice_ratios: dict[str, Annotated[float, Ge(0)]] = {}

    @property
    def coverage(self) -> float | None:
        """The probability with which an interval covers a volume, k / (n + 1); None without validation scans."""
        return conformal_rank(self.cases) / (self.cases + 1) if self.cases else None

    def volume_interval(self, structure: str, predicted: float) -> tuple[float, float] | None:
        """Return the interval of a structure's volume in ml; None without validation scans.

        Args:
            structure: its name.
            predicted: volume, in ml.
        """
        return conformal_interval(self.volume_residuals.get(structure, ()), predicted)

    def describe(self) -> str:
        """Return a sentence: how many scans, the temperature, and the coverage that the intervals can promise."""
        if self.coverage is None:
            return (
                "Not calibrated on validation scans: the temperature is 1, and volumes have the posterior's interval, which "
                "tends to be too narrow."
            )
        return (
            f"Calibrated on {self.cases} validation scan(s): temperature {self.temperature:.2f}; intervals of volumes promise "
            f"{self.coverage:.0%} coverage{'' if self.coverage >= 0.9 else ', the most that so few scans allow'}."
        )

    def write(self, folder: Path) -> Path:
        """Write calibration.json to the folder of a run, and return its path."""
        return write_json(folder / FILE, self.model_dump())

    @classmethod
    def read(cls, folder: Path) -> "Calibration":
        """Return what the folder of a run says, or no calibration if it has no calibration.json.

        Raises:
            DataError: if the file is damaged.
        """
        path = folder / FILE
        if not path.exists():
            return cls()
        cure = "Restore it, or remove it to predict without calibration."
        stored = read_json(path, "the calibration of a run", cure)
        found = check_header(cls, stored, str(path), cure, DataError)
        if wrong := [name for name, values in found.volume_residuals.items() if len(values) != found.cases]:
            raise DataError(f"{path} has {found.cases} cases, but another number of residuals of {wrong[0]!r}. {cure}")
        return found


def calibrate(predictor: Predictor, source: CaseSource, names: Sequence[str]) -> Calibration:
    """Predict validation scans on their own grids, fit the temperature and keep the residuals of their volumes.

    Memory is that of one scan, and of 2¹⁸ voxels of each of the others.

    Args:
        predictor: whose temperature and post-processing are not applied.
        source: of the cases.
        names: of the validation scans; none gives no calibration.

    Raises:
        DataError: if a case has no label, or a class that the network does not know.
    """
    raw = replace(predictor, temperature=1.0, postprocess=None)
    generator = torch.Generator().manual_seed(predictor.seed)
    voxels: list[tuple[Tensor, Tensor]] = []
    residuals: dict[str, list[float]] = {}
    scores: dict[str, list[tuple[float, float]]] = {}
    for name in track(names, "calibration", disable=not names):
        scan = source.load(name)
        prediction = raw.predict(scan)
        classes = len(prediction.probability)
        truth = checked_truth(predictor, scan, classes)
        voxels.append(_some(prediction.probability, truth, generator))
        for structure, members in predictor.preprocess.classes_of_structures(classes).items():
            true = float(torch.isin(truth, torch.tensor(members)).sum()) * scan.voxel_ml
            predicted = float(structure_volumes(prediction, members).mean()) * scan.voxel_ml
            residuals.setdefault(structure, []).append(volume_residual(true, predicted))
            if (pair := _dice_pair(prediction, truth, members)) is not None:
                scores.setdefault(structure, []).append(pair)
    temperature = fit_temperature(voxels) if voxels else 1.0
    ratios = {structure: _dice_ratio(*zip(*pairs, strict=True)) for structure, pairs in scores.items()}
    return Calibration(temperature=temperature, cases=len(names), volume_residuals=residuals, dice_ratios=ratios)


def dice_sums(probability: Tensor, mask: Tensor, classes: Sequence[int]) -> Tensor:
    """Return what `metrics.predicted_dice` takes: Σ p in the mask of a structure, Σ p, and the voxels of the mask, float64, (3,).

    Args:
        probability: (C, ...).
        mask: predicted classes, (...).
        classes: of the structure.
    """
    p = probability[list(classes)].sum(0).double()
    inside = torch.isin(mask, torch.tensor(classes, device=mask.device))
    return torch.stack([(p * inside).sum(), p.sum(), inside.sum()]).cpu()


def _dice_ratio(true: Sequence[float], expected: Sequence[float]) -> float:
    """Return the mean true over the mean expected Dice, as if HALFWAY more scans had met what was expected of them."""
    met = HALFWAY * fmean(expected)
    return (sum(true) + met) / (sum(expected) + met)


def _dice_pair(prediction: Prediction, truth: Tensor, classes: Sequence[int]) -> tuple[float, float] | None:
    """Return true and predicted Dice of a structure; None if its mask is empty, where there is nothing to be sure of."""
    slabs = zip(prediction.probability.unbind(1), prediction.mask, strict=True)
    inside, expected, mask = torch.stack([dice_sums(p, m, classes) for p, m in slabs]).sum(0).tolist()
    members = torch.tensor(classes)
    there, found = torch.isin(truth, members), torch.isin(prediction.mask, members)
    if mask == 0:
        return None
    return 2 * int((there & found).sum()) / (int(there.sum()) + mask), predicted_dice(inside, expected, mask)


def fit_temperature(voxels: Sequence[tuple[Tensor, Tensor]]) -> float:
    """Return the temperature, 0.1 to 10, of the smallest negative log-likelihood; 1 if none is smaller than without.

    Args:
        voxels: of each scan, probabilities p (C, n) and true classes (n,); scans have equal weights.
    """
    from scipy.optimize import minimize_scalar

    def loss(logarithm: float) -> float:
        return sum(_negative_log_likelihood(p, truth, math.exp(logarithm)) for p, truth in voxels) / len(voxels)

    found = minimize_scalar(loss, bounds=(math.log(COLDEST), math.log(HOTTEST)), method="bounded")
    return math.exp(found.x) if found.fun < loss(0.0) else 1.0


def checked_truth(predictor: Predictor, scan: Scan, classes: int) -> Tensor:
    """Return the classes of a labelled scan on its own grid, int64, (D, H, W).

    Raises:
        DataError: if it has no label, or a class that the network does not know.
    """
    truth = predictor.preprocess.mapped_label(scan)
    if truth is None:
        raise DataError(f"Case {scan.name} has no label to score a prediction by. Name a folder of labels.")
    check_labels(truth, classes, scan.label_place)
    return truth


def structure_volumes(prediction: Prediction, classes: Sequence[int]) -> Tensor:
    """Return the expected voxels of a structure under each sampled network, float64, (S,); (1,) if samples are not known."""
    volumes = prediction.volumes
    if volumes is None:
        volumes = torch.stack([p.sum(dtype=torch.float64) for p in prediction.probability])[None]
    return volumes[:, list(classes)].sum(1)


def _some(probability: Tensor, truth: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return probabilities (C, n) and classes (n,) of all voxels, or of some if there are many."""
    p, labels = probability.flatten(1), truth.flatten()
    if len(labels) <= VOXELS:
        return p, labels
    chosen = torch.randint(len(labels), (VOXELS,), generator=generator)
    return p[:, chosen], labels[chosen]


def _negative_log_likelihood(probability: Tensor, truth: Tensor, temperature: float) -> float:
    right = tempered(probability, temperature).gather(0, truth[None])[0]
    return float(-right.double().clamp_min(FLOOR).log().mean())
