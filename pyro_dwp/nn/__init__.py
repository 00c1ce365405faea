"""Plain deterministic networks; nothing here imports Pyro."""

from collections.abc import Callable
from typing import Annotated

from torch import nn

from pyro_dwp.nn.check import check_network
from pyro_dwp.nn.unet import UNet
from pyro_dwp.settings import Offers

NetworkFactory = Annotated[Callable[[], nn.Module], Offers("pyro_dwp.nn")]
"""Annotation of a script's parameter that takes the class of a network; the short names are those of this package."""

__all__ = ["NetworkFactory", "UNet", "check_network"]
