"""Predictions as NIfTI files, in the labels of the user, and a note of what their numbers mean.

    NAME_mask.nii.gz                 most probable label of each voxel
    NAME_probability.nii.gz          of the foreground; with more than two classes NAME_probability_LABEL, one for each
    NAME_entropy.nii.gz              nats
    NAME_mutual_information.nii.gz   nats
    labels.json                      {"masks": "labels" or "classes", "label_map": label → class or null}

If the label map gives each class one label, masks hold these labels. If it merges several, a mask cannot say which was meant, and
holds the classes. labels.json says which, so that `score_folders` compares like with like.
"""

import tempfile
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from pyro_dwp.data import Preprocess, Scan, case_name, labels_of_classes, write_volume
from pyro_dwp.data.paths import MASK, RESULT
from pyro_dwp.errors import DataError
from pyro_dwp.files import read_json, write_json
from pyro_dwp.predict.posterior import Prediction

FILE = "labels.json"


@dataclass(frozen=True)
class MaskLabels:
    """What the numbers in a folder's masks mean.

    Args:
        masks: "labels", as the user's files store them, or "classes" of the network.
        label_map: label → class of the run; None if it kept the labels.
    """

    masks: Literal["labels", "classes"]
    label_map: dict[int, int] | None

    @classmethod
    def of(cls, preprocess: Preprocess, classes: int) -> "MaskLabels":
        """Return what the masks of a network hold: labels if the label map can be inverted, classes if not.

        Args:
            preprocess: of the run.
            classes: of the network, background included.
        """
        inverse = labels_of_classes(preprocess.label_map, classes)
        return cls("classes" if inverse is None else "labels", preprocess.label_map)

    @classmethod
    def read(cls, folder: Path) -> "MaskLabels | None":
        """Return what a folder's labels.json says, or None if it has none.

        Raises:
            DataError: if the file is damaged.
        """
        path = folder / FILE
        if not path.exists():
            return None
        cure = "Predict again, or remove it and give the label map (--label_map)."
        stored = read_json(path, "the labels of predicted masks", cure)
        pairs: Any = stored.get("label_map") or {}
        whole = isinstance(pairs, dict) and all(
            key.isdecimal() and type(value) is int and value >= 0 for key, value in pairs.items()
        )
        if not whole or stored.get("masks") not in ("labels", "classes"):
            raise DataError(f"{path} does not say what masks hold: {stored}. {cure}")
        return cls(stored["masks"], {int(label): number for label, number in pairs.items()} or None)


def check_output(output: Path, names: Collection[str], inputs: Path, overwrite: bool, labels: MaskLabels) -> None:
    """Check, before anything is computed, that predictions can be written; make the folder if it is missing.

    Args:
        output: folder for the results.
        names: of the scans.
        inputs: folder or file of the scans.
        overwrite: whether results of these scans may be replaced.
        labels: what the masks will hold.

    Raises:
        DataError: if the folder is the scans' own, cannot be written to, has results of these scans that may not be replaced,
            or holds masks with other labels.
    """
    if output.resolve() == (inputs if inputs.is_dir() else inputs.parent).resolve():
        raise DataError(
            f"Results need a folder of their own, but {output} is the folder of the scans: masks and maps would mix with them. "
            "Choose another output."
        )
    try:
        output.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=output).close()
        results = {path.name: RESULT.fullmatch(case_name(path)) for path in sorted(output.iterdir())}
    except OSError as error:
        raise DataError(
            f"Results cannot be written to {output}: {error.strerror}. Choose another output folder."
        ) from error
    cases = {file: match["case"] for file, match in results.items() if match}
    ours = [file for file, case in cases.items() if case in names]
    if ours and not overwrite:
        raise DataError(
            f"{output} already has results of {len({cases[file] for file in ours})} of these scans, such as {ours[0]}. "
            "Choose another output folder, or replace them with --overwrite."
        )
    other = MaskLabels.read(output) if len(cases) > len(ours) else None
    if other not in (None, labels):
        raise DataError(
            f"{output} has masks of other scans with other labels ({output / FILE}: {other}). Choose another output folder."
        )


def write_prediction(folder: Path, prediction: Prediction, scan: Scan, preprocess: Preprocess) -> dict[str, Path]:
    """Write a prediction as NIfTI volumes on the grid of the scan's own file, each whole or not at all, and labels.json.

    The mask has the smallest unsigned integer type that holds its labels; the maps are float32.

    Args:
        folder: made if it is missing.
        prediction: on the scan's grid, (D, H, W).
        scan: that was predicted; names the files.
        preprocess: of the run, for its label map.

    Returns:
        What each file holds, e.g. "mask", → its path.

    Raises:
        DataError: if a file cannot be written.
    """
    classes = len(prediction.probability)
    labels = labels_of_classes(preprocess.label_map, classes) or list(range(classes))
    if classes == 2:
        maps = {"probability": 1 - prediction.probability[0]}
    else:
        maps = {f"probability_{labels[index]}": prediction.probability[index] for index in range(1, classes)}
    maps |= {"entropy": prediction.entropy, "mutual_information": prediction.mutual_information}
    mask = torch.tensor(labels)[prediction.mask.cpu()]
    kind = np.min_scalar_type(max(labels))
    write_json(folder / FILE, asdict(MaskLabels.of(preprocess, classes)))
    paths = {"mask": write_volume(folder / f"{scan.name}{MASK}.nii.gz", mask, scan.affine, kind, scan.origin)}
    for name, volume in maps.items():
        path = folder / f"{scan.name}_{name}.nii.gz"
        paths[name] = write_volume(path, volume, scan.affine, np.float32, scan.origin)
    return paths
