"""How good a segmentation is: overlap, proper scores of its probabilities, tables of cases."""

from pyro_dwp.metrics.calibration import brier_score, calibration_error, negative_log_likelihood
from pyro_dwp.metrics.overlap import dice, iou
from pyro_dwp.metrics.table import CaseTable, score_case

__all__ = ["CaseTable", "brier_score", "calibration_error", "dice", "iou", "negative_log_likelihood", "score_case"]
