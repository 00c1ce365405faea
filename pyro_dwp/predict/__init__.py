"""From a posterior to a segmentation with its uncertainty, on the scan's own grid and in files of its format."""

from pyro_dwp.nn.windows import Network, Overlap, class_probabilities
from pyro_dwp.predict.calibrate import Calibration, calibrate, fit_temperature
from pyro_dwp.predict.cases import Scoring, score_cases
from pyro_dwp.predict.evaluation import Evaluation, ScoredCase, describe_validity, pooled_validity, validity
from pyro_dwp.predict.folders import FolderScores, pair_files, score_folders
from pyro_dwp.predict.output import MAPS, Maps, MaskLabels, Precision, check_output, write_prediction
from pyro_dwp.predict.posterior import Prediction, Samples, posterior_predictive
from pyro_dwp.predict.postprocess import Postprocess
from pyro_dwp.predict.review import CaseReview, describe_review, review_case, widest_axis, write_review
from pyro_dwp.predict.volumes import Predictor, on_scan_grid

__all__ = [
    "MAPS",
    "Calibration",
    "CaseReview",
    "Evaluation",
    "FolderScores",
    "Maps",
    "MaskLabels",
    "Network",
    "Overlap",
    "Postprocess",
    "Precision",
    "Prediction",
    "Predictor",
    "Samples",
    "ScoredCase",
    "Scoring",
    "calibrate",
    "check_output",
    "class_probabilities",
    "describe_review",
    "describe_validity",
    "fit_temperature",
    "on_scan_grid",
    "pair_files",
    "pooled_validity",
    "posterior_predictive",
    "review_case",
    "score_cases",
    "score_folders",
    "validity",
    "widest_axis",
    "write_prediction",
    "write_review",
]
