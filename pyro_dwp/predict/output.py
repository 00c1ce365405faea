"""Predictions in the format of the scan, in the labels of the user, and a note of what their numbers mean.

    NAME_mask.nii.gz                 most probable label of each voxel
    NAME_probability.nii.gz          of the structure; of several NAME_probability_STRUCTURE, one for each
    NAME_entropy.nii.gz              nats
    NAME_mutual_information.nii.gz   nats
    NAME_entropy_STRUCTURE.nii.gz    of whether a voxel is in the structure, nats
    labels.json                      {"masks": "labels" or "classes", "label_map": label → class or null,
                                      "structures": name → labels or null}

Without names, structures are the labels. Maps of NIfTI scans have 8 bits, in 255 steps from 0 to the largest value there can be
(1, or the logarithm of the number of classes), of mutual information to the largest that there is; the header's scl_slope gives
every reader the values themselves. A probability is off by at most 1/510, and above 0.5 exactly if the stored one is.

Of a PNG scan they are PNG images, NAME_mask.png and so on; of a stack of PNG slices, folders NAME_mask/ with slices of the same
names. The maps are then 16-bit greyscale, in which 65535, white, is the largest value there can be: 1 for a probability, the
logarithm of the number of classes for entropy and mutual information.

If the label map gives each class one label, masks hold these labels. If it merges several, a mask cannot say which was meant, and
holds the classes. labels.json says which, so that `score_folders` compares like with like.
"""

import math
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BeforeValidator
from torch import Tensor

from pyro_dwp.checks import words
from pyro_dwp.data import Preprocess, Scan, case_name, labels_of_classes, write_png, write_volume
from pyro_dwp.data.paths import MASK, RESULT
from pyro_dwp.data.png import LARGEST
from pyro_dwp.errors import DataError
from pyro_dwp.files import read_json, write_json
from pyro_dwp.metrics import Structures, entropy
from pyro_dwp.predict.posterior import Prediction

FILE = "labels.json"
MAPS: "Maps" = ("probability", "entropy", "mutual_information")

Kind = Literal["probability", "entropy", "mutual_information", "structure_entropy"]
Maps = Annotated[tuple[Kind, ...], BeforeValidator(words)]
Precision = Literal["uint8", "float32"]


@dataclass(frozen=True)
class MaskLabels:
    """What the numbers in a folder's masks mean.

    Args:
        masks: "labels", as the user's files store them, or "classes" of the network.
        label_map: label → class of the run; None if it kept the labels.
        structures: name → stored labels, of what the run scored; None if it scored each label.
    """

    masks: Literal["labels", "classes"]
    label_map: dict[int, int] | None
    structures: dict[str, list[int]] | None = None

    @classmethod
    def of(cls, preprocess: Preprocess, classes: int) -> "MaskLabels":
        """Return what the masks of a network hold: labels if the label map can be inverted, classes if not.

        Args:
            preprocess: of the run.
            classes: of the network, background included.
        """
        inverse = labels_of_classes(preprocess.label_map, classes)
        return cls("classes" if inverse is None else "labels", preprocess.label_map, preprocess.structures)

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
        structures: Any = stored.get("structures") or {}
        named = isinstance(structures, dict) and all(
            isinstance(labels, list) and labels and all(type(label) is int and label >= 0 for label in labels)
            for labels in structures.values()
        )
        if not whole or not named or stored.get("masks") not in ("labels", "classes"):
            raise DataError(f"{path} does not say what masks hold: {stored}. {cure}")
        return cls(stored["masks"], {int(label): number for label, number in pairs.items()} or None, structures or None)


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


def write_prediction(
    folder: Path,
    prediction: Prediction,
    scan: Scan,
    preprocess: Preprocess,
    maps: Maps = MAPS,
    precision: Precision = "uint8",
) -> dict[str, Path]:
    """Write a prediction on the grid and in the format of the scan's own file, each file whole or not at all, and labels.json.

    The mask has the smallest unsigned integer type that holds its labels; maps of PNG scans are 16-bit greyscale.

    Args:
        folder: made if it is missing.
        prediction: on the scan's grid, (D, H, W).
        scan: that was predicted; names the files.
        preprocess: of the run, for its label map and its structures.
        maps: kinds of map that are written beside the mask.
        precision: of the maps of NIfTI scans.

    Returns:
        What each file holds, e.g. "mask", → its path.

    Raises:
        DataError: if a file cannot be written.
    """
    classes = len(prediction.probability)
    labels = labels_of_classes(preprocess.label_map, classes) or list(range(classes))
    mask = torch.tensor(labels, dtype=torch.uint8 if max(labels) < 256 else torch.int64)[prediction.mask.cpu()]
    write_json(folder / FILE, asdict(MaskLabels.of(preprocess, classes)))
    paths = {"mask": _write(folder / f"{scan.name}{MASK}", mask, scan, np.min_scalar_type(max(labels)))}
    for name, volume, largest in _volumes(prediction, preprocess.classes_of_structures(classes), maps):
        paths[name] = _write(folder / f"{scan.name}_{name}", volume, scan, precision, largest)
    return paths


def _volumes(prediction: Prediction, structures: Structures, maps: Maps) -> Iterator[tuple[str, Tensor, float]]:
    """Yield the name of each map, its voxels and the largest value that they can have."""
    largest = math.log(len(prediction.probability))
    for kind in maps:
        if kind == "entropy":
            yield kind, prediction.entropy, largest
        elif kind == "mutual_information":
            yield kind, prediction.mutual_information, largest
        else:
            for name, members in structures.items():
                p, of = prediction.probability[list(members)].sum(0).clamp_(max=1), f"_{name.replace(' ', '_')}"
                if kind == "probability":
                    yield kind + of * (len(structures) > 1), p, 1.0
                else:
                    yield f"entropy{of}", entropy(torch.stack([1 - p, p])), math.log(2)


def _write(path: Path, volume: Tensor, scan: Scan, dtype: npt.DTypeLike, largest: float | None = None) -> Path:
    """Write a mask, or a map with its largest possible value, in the format of its scan; path without extension."""
    origin = scan.origin
    if origin is not None and origin.header is None:
        whole = volume if largest is None else (volume * (LARGEST / largest)).round().to(torch.int64)
        return write_png(path, whole, origin.images[0], deep=largest is not None)
    if path.name.endswith("mutual_information"):  # mostly far below what it could be
        largest = float(volume.max()) or largest
    steps = None if largest is None or dtype == "float32" else 255 / largest
    header = origin.header if origin else None
    return write_volume(path.with_name(f"{path.name}.nii.gz"), volume, scan.affine, dtype, header, steps)
