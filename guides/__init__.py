"""Variational families over weight sites, one in each file.

A guide is built empty as ``GuideClass(sites, **settings)``. Then it is filled, by ``guide.start(draw, prior)`` with start
weights or by ``load_state_dict`` with a trained posterior.
"""

from guides.auto import Auto
from guides.base import Guide
from guides.channel_covariance import ChannelCovariance
from guides.dropout import Dropout
from guides.ensemble import Ensemble
from guides.kernel_covariance import KernelCovariance
from guides.latent import Latent
from guides.low_rank import LowRank
from guides.mean_field import MeanField
from guides.point import Point

__all__ = [
    "Auto",
    "ChannelCovariance",
    "Dropout",
    "Ensemble",
    "Guide",
    "KernelCovariance",
    "Latent",
    "LowRank",
    "MeanField",
    "Point",
]
