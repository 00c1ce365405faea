"""Variational families over weight sites, one in each file.

Every guide is called as ``GuideClass(sites, start, **settings)``: the sites it covers and the weights it starts from.
"""

from guides.auto import Auto
from guides.base import Guide
from guides.ensemble import Ensemble
from guides.kernel_covariance import KernelCovariance
from guides.latent import Latent
from guides.low_rank import LowRank
from guides.matrix_normal import MatrixNormal
from guides.mean_field import MeanField
from guides.point import Point

__all__ = [
    "Auto",
    "Ensemble",
    "Guide",
    "KernelCovariance",
    "Latent",
    "LowRank",
    "MatrixNormal",
    "MeanField",
    "Point",
]
