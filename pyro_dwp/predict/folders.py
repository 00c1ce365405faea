"""Score a folder of predicted masks against a folder of true ones, both NIfTI, matched by file name."""

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from pyro_dwp.data import Preprocess, Scan, nifti, nifti_files
from pyro_dwp.errors import DataError
from pyro_dwp.metrics import CaseTable, score_case
from pyro_dwp.predict.volumes import MAPS, MASK

MAP_NAME = re.compile(rf"(?P<case>.+)(?:{'|'.join(MAPS)})(?:_\d+)?")


def pair_files(predictions: str | Path, truths: str | Path) -> dict[str, tuple[Path, Path]]:
    """Pair each predicted mask with the truth of the same case.

    NAME.nii.gz and NAME_mask.nii.gz both belong to the truth NAME.nii.gz. The maps of probability and uncertainty that
    `write_prediction` leaves beside NAME_mask.nii.gz are passed over, and so are truths without a prediction.

    Args:
        predictions: folder of masks; ~ and environment variables are replaced.
        truths: folder of true masks.

    Returns:
        Name of the truth → (prediction, truth), sorted by name.

    Raises:
        DataError: if a folder is missing or has no NIfTI file, a prediction has no truth, or a truth two predictions.
    """
    predicted, known = nifti_files(predictions), nifti_files(truths)
    pairs: dict[str, tuple[Path, Path]] = {}
    alone = []
    for name, path in predicted.items():
        found = MAP_NAME.fullmatch(name)
        if found and f"{found['case']}{MASK}" in predicted:
            continue
        case = name if name in known else name.removesuffix(MASK)
        if case not in known:
            alone.append(path.name)
        elif case in pairs:
            raise DataError(
                f"A truth has one prediction, but {known[case]} has two: {pairs[case][0]} and {path}. Remove one."
            )
        else:
            pairs[case] = path, known[case]
    if alone:
        raise DataError(
            f"Each prediction has a truth of the same name, but {len(alone)} of {len(alone) + len(pairs)} in "
            f"{predictions} have none in {truths}: {', '.join(alone[:5])}{' …' if len(alone) > 5 else ''}. "
            "Add the truths, or move these predictions elsewhere."
        )
    return dict(sorted(pairs.items()))


def score_folders(
    predictions: str | Path,
    truths: str | Path,
    classes: int | None = None,
    label_map: Mapping[int, int] | None = None,
) -> CaseTable:
    """Return Dice and IoU of each predicted mask that a folder holds.

    Args:
        predictions: folder of masks, see `pair_files`.
        truths: folder of true masks on the same grids.
        classes: number of classes, background included; None finds the largest label in both folders first.
        label_map: class of each label value that the truths store, where predictions have merged some; None keeps them.

    Raises:
        DataError: if files do not pair up, cannot be read, differ in shape or affine, or hold a label that is no class.
    """
    pairs = pair_files(predictions, truths)
    preprocess = Preprocess(label_map=dict(label_map) if label_map else None)
    if classes is None:
        largest = [int(labels.max()) for case in pairs for labels in read_pair(case, *pairs[case], preprocess)]
        classes = max(2, *(label + 1 for label in largest))
    table = CaseTable()
    for case, paths in pairs.items():
        prediction, truth = read_pair(case, *paths, preprocess)
        try:
            table.add(case, score_case(prediction, truth, classes))
        except DataError as error:
            raise DataError(f"{paths[0]} and {paths[1]}: {error}") from error
    return table


def read_pair(case: str, prediction: Path, truth: Path, preprocess: Preprocess) -> tuple[Tensor, Tensor]:
    """Read a predicted and a true mask on one grid, int64 (D, H, W), the truth after the label map.

    Raises:
        DataError: if a file cannot be read or holds other than labels, or shapes or affines differ.
    """
    array, affine = nifti.read_array(truth, modalities=1)
    predicted = nifti.read_label(prediction, truth, array.shape[1:], affine)
    stored = nifti.read_label(truth, truth, array.shape[1:], affine)
    mapped = preprocess.mapped_label(Scan(case, stored[None], stored, affine))
    return predicted, stored if mapped is None else mapped
