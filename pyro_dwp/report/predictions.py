"""What a run predicted for a case, read back from its folder of predictions. Axis letters: D H W voxels."""

import math
from glob import escape
from pathlib import Path

import torch
from torch import Tensor

from pyro_dwp.data import map_labels, read_label
from pyro_dwp.data.paths import MASK
from pyro_dwp.data.png import LARGEST
from pyro_dwp.data.reading import load_volume
from pyro_dwp.predict import MaskLabels

MAPS = {"entropy": "Predictive entropy", "mutual_information": "Mutual information"}  # in nats


def prediction_file(folder: Path, name: str) -> Path | None:
    """Return the file, or folder of slices, of this name without extension; None if there is none."""
    return next(iter(sorted([*folder.glob(f"{escape(name)}.*"), *folder.glob(escape(name))])), None)


def predicted_mask(folder: Path, case: str) -> Tensor | None:
    """Return the classes that were predicted for a case, (D, H, W); None if no mask was kept.

    Args:
        folder: predictions/ of a run.
        case: its name.

    Raises:
        DataError: if the mask cannot be read.
    """
    path = prediction_file(folder, f"{case}{MASK}")
    if path is None:
        return None
    stored = MaskLabels.read(folder)
    label_map = stored.label_map if stored and stored.masks == "labels" else None
    return map_labels(read_label(path), label_map, str(path))


def predicted_map(folder: Path, case: str, classes: int) -> tuple[str, Tensor] | None:
    """Return what the uncertainty map of a case is called, and the map in nats, (D, H, W); None if none was kept.

    Args:
        folder: predictions/ of a run.
        case: its name.
        classes: C, the background included; white in a PNG is ln C.

    Raises:
        DataError: if the map cannot be read.
    """
    for kind, title in MAPS.items():
        path = prediction_file(folder, f"{case}_{kind}")
        if path is not None:
            volume = load_volume(path)
            unit = math.log(classes) / LARGEST if volume.header is None else 1.0
            return title, torch.from_numpy(volume.voxels[0]) * unit
    return None
