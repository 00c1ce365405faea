"""How good a segmentation is: overlap, surface distance, proper scores of its probabilities, its uncertainty; tables of cases."""

from pyro_dwp.metrics.calibration import (
    brier_score,
    calibration_error,
    calibration_error_boundary,
    negative_log_likelihood,
)
from pyro_dwp.metrics.labels import label_values
from pyro_dwp.metrics.overlap import dice, iou, mean_score
from pyro_dwp.metrics.surface import boundary_band, hausdorff_95
from pyro_dwp.metrics.table import RULE, CaseTable, label_columns, mask_scores, score_case
from pyro_dwp.metrics.uncertainty import entropy, interval, uncertainty_error_correlation, volume_scores

__all__ = [
    "RULE",
    "CaseTable",
    "boundary_band",
    "brier_score",
    "calibration_error",
    "calibration_error_boundary",
    "dice",
    "entropy",
    "hausdorff_95",
    "interval",
    "iou",
    "label_columns",
    "label_values",
    "mask_scores",
    "mean_score",
    "negative_log_likelihood",
    "score_case",
    "uncertainty_error_correlation",
    "volume_scores",
]
