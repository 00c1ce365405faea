"""One scan, in whatever form a notebook has it: read, an array, or in files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from pyro_dwp.data.arrays import Array, Arrays
from pyro_dwp.data.folder import Folder
from pyro_dwp.data.paths import case_name
from pyro_dwp.data.reading import read_scan
from pyro_dwp.data.scan import Scan
from pyro_dwp.errors import ConfigError, DataError

Image = Scan | Array | Path | str | Sequence[Path | str]
"""A scan; an array (D, H, W) or (C, D, H, W); a file; a folder with the files of one scan; or a file for each sequence."""

Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class Sequences:
    """The channels that a network learned from.

    Args:
        count: of them.
        names: or numbers, in the network's order; () where they are not known.
    """

    count: int
    names: tuple[str, ...] = ()

    def scan(self, image: Image, spacing: Spacing | None = None) -> Scan:
        """Return the scan that is meant, with these channels.

        Args:
            image: see `Image`.
            spacing: of an array, distance between voxels along each axis, in mm.

        Raises:
            DataError: if the image cannot be read, is not one scan, or has another number of channels.
            ConfigError: if an array comes without a spacing.
        """
        scan = self._read(image, spacing)
        if len(scan.image) != self.count:
            named = f" ({', '.join(self.names)})" if self.names and not all(map(str.isdecimal, self.names)) else ""
            raise DataError(
                f"{scan.image_place} has {len(scan.image)} channel(s), but the network learned from {self.count}{named}. Give "
                "the same sequences in the same order."
            )
        return scan

    def _read(self, image: Image, spacing: Spacing | None) -> Scan:
        if isinstance(image, Scan):
            return image
        if isinstance(image, str | Path):
            return _only(Folder.like(image, self.count, self.names), image)
        if not isinstance(image, np.ndarray | Tensor):
            return read_scan(case_name(Path(image[0])), [Path(path) for path in image])
        if spacing is None:
            raise ConfigError(
                "An array does not tell the distances between its voxels. Pass such as spacing=(1, 1, 3), in mm."
            )
        return Arrays([image], spacing=spacing, names=["array"]).load("array")


def _only(source: Folder, place: Path | str) -> Scan:
    names = sorted({*source.names(), *source.unlabelled()})
    if len(names) != 1:
        raise DataError(f"{place} holds {len(names)} scans, but one is predicted at a time. Name the file of one.")
    return source.load(names[0])
