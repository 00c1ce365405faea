"""What can be timed, and the synthetic scans that it is given."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from pyro_dwp.data import Prepared
from pyro_dwp.train import Machine

Seams = Mapping[str, tuple[Any, str]]
"""Part of the work → an object and the name of its attribute that does it when it is called."""


@dataclass(frozen=True)
class Bench:
    """What all rows of a table are measured on.

    Args:
        machine: where to compute, and in which precision.
        device: of the machine.
        grid: voxels of a scan along each axis.
        scans: in a minibatch.
    """

    machine: Machine
    device: torch.device
    grid: tuple[int, int, int] = (64, 64, 24)
    scans: int = 2

    def cases(self) -> list[Prepared]:
        """Return one minibatch of noise, whose brightest voxels are the lesion."""
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(self.scans, 1, *self.grid, generator=generator)
        box = tuple((0, edge) for edge in self.grid)
        return [
            Prepared(f"noise_{number}", image, (image[0] > 1).long(), np.eye(4), self.grid, box)
            for number, image in enumerate(images)
        ]

    @property
    def indices(self) -> torch.Tensor:
        """Of all scans of the minibatch."""
        return torch.arange(self.scans)


class Workload(ABC):
    """Work that is built once and then timed repeatedly; a subclass takes a `Bench` and settings of its own.

    Attributes:
        seams: methods whose time is to be told apart, by part, such as {"network": (network, "forward")}; of methods that call
            each other, time belongs to the innermost.
    """

    seams: Seams = MappingProxyType({})

    @abstractmethod
    def run(self) -> object:
        """Do the work once."""
