"""From a posterior to a segmentation with its uncertainty, on the scan's own grid and in NIfTI files."""

from pyro_dwp.predict.cases import ScoredCase, score_cases
from pyro_dwp.predict.folders import pair_files, score_folders
from pyro_dwp.predict.posterior import Prediction, entropy, posterior_predictive
from pyro_dwp.predict.volumes import on_scan_grid, predict_scan, write_prediction
from pyro_dwp.predict.windows import Network, class_probabilities

__all__ = [
    "Network",
    "Prediction",
    "ScoredCase",
    "class_probabilities",
    "entropy",
    "on_scan_grid",
    "pair_files",
    "posterior_predictive",
    "predict_scan",
    "score_cases",
    "score_folders",
    "write_prediction",
]
