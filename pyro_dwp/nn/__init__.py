"""Plain deterministic networks; nothing here imports Pyro."""

from collections.abc import Callable
from typing import Annotated

from torch import nn

from pyro_dwp.nn.check import check_network
from pyro_dwp.nn.computing import PLAIN, Computing, MemoryFormat, Precision, best_precision
from pyro_dwp.nn.fcn import FCN
from pyro_dwp.nn.networks import load_network, read_network, save_network, snapshot_files
from pyro_dwp.nn.slices import slice_by_slice
from pyro_dwp.nn.unet import UNet
from pyro_dwp.settings import Offers

NetworkFactory = Annotated[Callable[[], nn.Module], Offers("pyro_dwp.nn")]
"""Annotation of a script's parameter that takes the class of a network; the short names are those of this package."""

__all__ = [
    "FCN",
    "NetworkFactory",
    "PLAIN",
    "Computing",
    "MemoryFormat",
    "Precision",
    "best_precision",
    "UNet",
    "check_network",
    "load_network",
    "read_network",
    "save_network",
    "slice_by_slice",
    "snapshot_files",
]
