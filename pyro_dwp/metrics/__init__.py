"""How good a segmentation is: overlap, proper scores of its probabilities, tables of cases."""

from pyro_dwp.metrics.calibration import brier_score, calibration_error, negative_log_likelihood
from pyro_dwp.metrics.labels import label_values
from pyro_dwp.metrics.overlap import dice, iou, mean_score
from pyro_dwp.metrics.table import RULE, CaseTable, label_columns, score_case

__all__ = [
    "RULE",
    "CaseTable",
    "brier_score",
    "calibration_error",
    "dice",
    "iou",
    "label_columns",
    "label_values",
    "mean_score",
    "negative_log_likelihood",
    "score_case",
]
