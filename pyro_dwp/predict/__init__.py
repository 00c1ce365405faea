"""From a posterior to a segmentation with its uncertainty, on the scan's own grid and in files of its format."""

from pyro_dwp.nn.windows import Network, Overlap, class_probabilities
from pyro_dwp.predict.cases import ScoredCase, Scoring, score_cases, tabulate
from pyro_dwp.predict.folders import FolderScores, pair_files, score_folders
from pyro_dwp.predict.output import MaskLabels, check_output, write_prediction
from pyro_dwp.predict.posterior import Prediction, Samples, posterior_predictive
from pyro_dwp.predict.volumes import on_scan_grid, predict_scan

__all__ = [
    "FolderScores",
    "MaskLabels",
    "Network",
    "Overlap",
    "Prediction",
    "Samples",
    "ScoredCase",
    "Scoring",
    "check_output",
    "class_probabilities",
    "on_scan_grid",
    "pair_files",
    "posterior_predictive",
    "predict_scan",
    "score_cases",
    "score_folders",
    "tabulate",
    "write_prediction",
]
