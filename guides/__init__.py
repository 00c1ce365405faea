"""Variational families over weight sites, one in each file.

Every guide is called as ``GuideClass(sites, start, **settings)``: the sites it covers and the weights it starts from.
"""

from guides.base import Guide
from guides.mean_field import MeanField
from guides.point import Point

__all__ = ["Guide", "MeanField", "Point"]
