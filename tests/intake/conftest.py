"""Cases that a test makes, in memory."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from pyro_dwp.data import CaseSource, Scan
from pyro_dwp.errors import DataError


class Listed(CaseSource):
    """Scans that a test made; one that is a text cannot be read."""

    layout = "a list"

    def __init__(self, *scans: Scan | str, named: dict[str, list[int]] | None = None) -> None:
        self.scans = {scan if isinstance(scan, str) else scan.name: scan for scan in scans}
        self.named, self.read = named, []

    def names(self) -> list[str]:
        return [*self.scans]

    def load(self, name: str) -> Scan:
        self.read.append(name)
        if isinstance(self.scans[name], str):
            raise DataError(f"{name}.nii.gz is truncated. Copy it again.")
        return self.scans[name]

    def structures(self) -> dict[str, list[int]] | None:
        return self.named


def ball(name: str, radius: float = 5.0, shape=(24, 26, 20), spacing=(1.0, 1.0, 1.0), channels=1, values=(1,)) -> Scan:
    """Return noise with a ball for each label value, side by side along the second axis."""
    noise = np.random.default_rng([ord(letter) for letter in name]).uniform(1, 9, (channels, *shape))
    d, h, w = np.meshgrid(*(np.arange(edge) * mm for edge, mm in zip(shape, spacing, strict=True)), indexing="ij")
    label = np.zeros(shape, dtype=np.int64)
    for number, value in enumerate(values):
        centre = [edge * mm / 2 for edge, mm in zip(shape, spacing, strict=True)]
        centre[1] *= (2 * number + 1) / len(values)
        inside = sum((axis - at) ** 2 for axis, at in zip((d, h, w), centre, strict=True)) <= radius**2
        label[inside] = value
    image = torch.from_numpy(noise).float()
    return Scan(name, image, torch.from_numpy(label), np.diag([*spacing, 1.0]))


@pytest.fixture
def make() -> Callable[..., Scan]:
    return ball


@pytest.fixture
def listed() -> type[Listed]:
    return Listed
