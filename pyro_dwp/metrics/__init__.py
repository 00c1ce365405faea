"""How good a segmentation is: overlap, surface distance, proper scores of its probabilities, its uncertainty; tables of cases."""

from pyro_dwp.metrics.calibration import (
    FLOOR,
    Reliability,
    brier_score,
    calibration_error,
    calibration_error_boundary,
    negative_log_likelihood,
    tempered,
)
from pyro_dwp.metrics.labels import label_values
from pyro_dwp.metrics.overlap import dice, iou, mean_score
from pyro_dwp.metrics.surface import boundary_band, bounding_box, hausdorff_95
from pyro_dwp.metrics.table import (
    EACH,
    RULE,
    CaseTable,
    Structures,
    mask_scores,
    score_case,
    structure_columns,
    structure_title,
)
from pyro_dwp.metrics.uncertainty import SMALLEST, entropy, predicted_dice, uncertainty_error_correlation
from pyro_dwp.metrics.validity import rank_correlation, share
from pyro_dwp.metrics.volume import (
    COVERAGE,
    conformal_interval,
    conformal_rank,
    interval,
    posterior_coverage,
    volume_residual,
)

__all__ = [
    "COVERAGE",
    "EACH",
    "FLOOR",
    "RULE",
    "SMALLEST",
    "CaseTable",
    "Reliability",
    "Structures",
    "boundary_band",
    "bounding_box",
    "brier_score",
    "calibration_error",
    "calibration_error_boundary",
    "conformal_interval",
    "conformal_rank",
    "dice",
    "entropy",
    "hausdorff_95",
    "interval",
    "iou",
    "label_values",
    "mask_scores",
    "mean_score",
    "negative_log_likelihood",
    "posterior_coverage",
    "predicted_dice",
    "rank_correlation",
    "score_case",
    "structure_columns",
    "structure_title",
    "share",
    "tempered",
    "uncertainty_error_correlation",
    "volume_residual",
]
