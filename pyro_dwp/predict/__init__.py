"""From a posterior to a segmentation with its uncertainty, on the scan's own grid and in NIfTI files."""

from pyro_dwp.predict.cases import ScoredCase, score_cases, tabulate
from pyro_dwp.predict.folders import FolderScores, pair_files, score_folders
from pyro_dwp.predict.output import MaskLabels, check_output, write_prediction
from pyro_dwp.predict.posterior import Prediction, Samples, entropy, posterior_predictive
from pyro_dwp.predict.volumes import on_scan_grid, predict_scan
from pyro_dwp.predict.windows import Network, Overlap, class_probabilities

__all__ = [
    "FolderScores",
    "MaskLabels",
    "Network",
    "Overlap",
    "Prediction",
    "Samples",
    "ScoredCase",
    "check_output",
    "class_probabilities",
    "entropy",
    "on_scan_grid",
    "pair_files",
    "posterior_predictive",
    "predict_scan",
    "score_cases",
    "score_folders",
    "tabulate",
    "write_prediction",
]
