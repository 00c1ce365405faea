"""Learned priors over convolution kernels for Bayesian segmentation of medical images, in Pyro.

What a notebook needs can be imported from here; a subpackage is loaded when one of its names is first used.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

ROOMS = {
    "data": "Augment CaseSource Decathlon Folder FolderPairs Patches Phantoms Preprocess Scan SplitPlan check_cases read_scan",
    "data.arrays": "Arrays",
    "errors": "PyroDwpError",
    "infer": "AuxiliaryELBO Flipout check_guide weight_scales",
    "likelihoods": "Categorical DiceCrossEntropy Likelihood",
    "nn": "UNet load_network",
    "predict": "Prediction Predictor posterior_predictive write_prediction",
    "priors": (
        "Assigned DeepWeight Empirical Flow Gaussian Laplace Mixture Pretrained Prior Rule ScaleMixture SourcePosterior StudentT"
    ),
    "report": "Drawing learning_curves show_case",
    "runs": "Posterior load_posterior",
    "sites": "WeightSite weight_sites",
    "train": "JointAdam SVI Schedule VariationalTask configure_pyro draw_network fit",
    "transfer": "start_function",
}
HOME = {name: room for room, names in ROOMS.items() for name in names.split()}
__all__ = sorted(HOME)


def __getattr__(name: str) -> Any:
    if name not in HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
