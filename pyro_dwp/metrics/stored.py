"""What metrics.json in the folder of a run says, checked once for all that read it: tables, report, validity."""

from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Le
from pydantic import AfterValidator, BaseModel, NonNegativeFloat, NonNegativeInt, PositiveFloat

from pyro_dwp.errors import DataError
from pyro_dwp.files import check_header, read_json

FILE = "metrics.json"
SHARES = ("dice", "iou", "predicted_dice", "volume_covered", "calibration_error")  # of a class or of all, from 0 to 1

Share = Annotated[float, Ge(0), Le(1)]


def _check_scores(scores: dict[str, float | None]) -> dict[str, float | None]:
    for name, value in scores.items():
        if value is not None and name.startswith(SHARES) and not 0 <= value <= 1:
            raise ValueError(f"{name} lies from 0 to 1")
    return scores


Scores = Annotated[dict[str, float | None], AfterValidator(_check_scores)]


class Scored(BaseModel, allow_inf_nan=False):
    """The scores of some cases, as `CaseTable.to_dict` gives them."""

    mean: Scores = {}
    std: dict[str, float | None] = {}
    cases: dict[str, Scores] = {}


class Slice(BaseModel, allow_inf_nan=False):
    """A slice to look at."""

    axis: str
    index: NonNegativeInt
    wrong_ml: NonNegativeFloat | None = None


class Reviewed(BaseModel, allow_inf_nan=False):
    """What a prediction says about itself."""

    case: str
    predicted_dice: Share | None = None
    slices: list[Slice] = []


def _check_lengths(curve: "Curve") -> "Curve":
    if not len(curve.probability) == len(curve.frequency) == len(curve.voxels):
        raise ValueError("probability, frequency and voxels have as many entries")
    return curve


class Curve(BaseModel, allow_inf_nan=False):
    """A calibration curve: mean probability, share of hits and number of voxels of each bin."""

    probability: list[Share]
    frequency: list[Share]
    voxels: list[NonNegativeInt]


class Validity(BaseModel, allow_inf_nan=False):
    """Whether an uncertainty keeps its promise, see `predict.evaluation.validity`."""

    rank_correlation: Annotated[float, Ge(-1), Le(1)] | None = None
    coverage: Share | None = None
    low: Annotated[float, Ge(-1), Le(1)] | None = None
    high: Annotated[float, Ge(-1), Le(1)] | None = None
    cases: NonNegativeInt = 0
    nominal: Share | None = None


class Metrics(BaseModel, allow_inf_nan=False):
    """The part of metrics.json that is read again; runs of earlier versions lack some of it."""

    test: Scored | None = None
    validation: Scored | None = None
    seconds: NonNegativeFloat | None = None
    seconds_per_step: NonNegativeFloat | None = None
    peak_memory_mib: NonNegativeFloat | None = None
    temperature: PositiveFloat | None = None
    calibration: dict[str, Annotated[Curve, AfterValidator(_check_lengths)]] = {}
    review: list[Reviewed] = []
    validity: dict[str, Validity] = {}

    @property
    def scored(self) -> Scored:
        """The scores of a run, whether of test scans or of validation scans."""
        return self.test or self.validation or Scored()


def read_metrics(folder: Path, cure: str) -> Metrics:
    """Return what a finished run found.

    Args:
        folder: of the run.
        cure: what to do if its metrics.json is missing or damaged, a sentence.

    Raises:
        DataError: if it is.
    """
    path = folder / FILE
    return check_header(Metrics, read_json(path, "the scores of a finished run", cure), str(path), cure, DataError)
