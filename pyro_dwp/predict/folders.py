"""Score a folder of predicted masks against a folder of true ones, NIfTI or PNG, matched by file name.

Labels are compared as values, such as {0, 1, 2, 4}. Where labels.json beside the masks says that they hold merged classes, the
truths are mapped in the same way first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from pyro_dwp.data import expand, map_labels, read_label, scan_files
from pyro_dwp.data.paths import MASK, RESULT
from pyro_dwp.data.reading import load_volume, whole_labels
from pyro_dwp.data.structures import classes_of_structures
from pyro_dwp.errors import DataError
from pyro_dwp.metrics import CaseTable, Structures, label_values, mask_scores, structure_columns
from pyro_dwp.predict.output import FILE, MaskLabels

MANY = 20  # labels that only the masks have; more, and the files are scans


@dataclass(frozen=True, eq=False)
class FolderScores:
    """Scores of a folder of masks.

    Args:
        table: one row per case.
        notes: lines to print below it: truths that have no prediction, labels that only one side has.
    """

    table: CaseTable
    notes: tuple[str, ...]


def pair_files(predictions: str | Path, truths: str | Path) -> tuple[dict[str, tuple[Path, Path]], list[str]]:
    """Pair each predicted mask with the truth of the same case.

    NAME.nii.gz and NAME_mask.nii.gz both belong to the truth NAME.nii.gz, and so for PNG. The maps of probability and uncertainty
    that `write_prediction` leaves beside a mask are not masks and are left out.

    Args:
        predictions: folder of masks; ~ and environment variables are replaced.
        truths: folder of true masks.

    Returns:
        Name of the truth → (prediction, truth), sorted by name; and the names of truths without a prediction.

    Raises:
        DataError: if a folder is missing or has no scan, a prediction has no truth, or a truth two predictions.
    """
    predicted, known = scan_files(predictions, results=True), scan_files(truths, results=True)
    pairs: dict[str, tuple[Path, Path]] = {}
    alone = []
    for name, path in predicted.items():
        match = RESULT.fullmatch(name)
        if match and match["kind"] != MASK and f"{match['case']}{MASK}" in predicted:
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
    return dict(sorted(pairs.items())), sorted(known.keys() - pairs.keys())


def score_folders(
    predictions: str | Path,
    truths: str | Path,
    label_map: Mapping[int, int] | None = None,
    structures: Mapping[str, Sequence[int]] | None = None,
    allow_missing: bool = False,
) -> FolderScores:
    """Return Dice, IoU and the 95 % Hausdorff distance (mm) of each predicted mask that a folder holds.

    A case is scored over the structures that occur in its truth or its prediction, see `metrics.score_case`.

    Args:
        predictions: folder of masks, see `pair_files`.
        truths: folder of true masks on the same grids.
        label_map: class of each label that the truths store, if the predictions hold merged or renumbered classes. If labels.json
            says that the predictions hold labels, both sides are mapped; if it says that they hold classes, its map is the
            default. None without such a file keeps all labels.
        structures: name → labels as the truths store them, of what is scored; None takes those of labels.json, unless a label map
            is given, and without them each label for one.
        allow_missing: score the predictions that exist, and name the truths without one in the notes.

    Raises:
        DataError: if files do not pair up, cannot be read, differ in shape or affine, a label is not in the map, or a truth
            has no prediction and `allow_missing` is not set.
        ConfigError: if a structure has only some of the labels that are merged into a class.
    """
    pairs, missing = pair_files(predictions, truths)
    notes = []
    if missing:
        listed = ", ".join(missing[:5]) + (" …" if len(missing) > 5 else "")
        found = f"{len(missing)} of {len(missing) + len(pairs)} truths have no prediction: {listed}"
        if not allow_missing:
            raise DataError(f"{found} (in {predictions}). Predict them, or score the others with --allow_missing.")
        notes.append(f"Note: {found}")
    stored = MaskLabels.read(expand(predictions))
    classes = stored is not None and stored.masks == "classes"
    known = stored.label_map if stored else None
    if label_map is not None and classes and dict(label_map) != known:
        raise DataError(
            f"The masks in {predictions} hold classes after the label map {known} ({FILE}), but label_map is "
            f"{dict(label_map)}. Leave it out, or predict again with this map."
        )
    truth_map = known if classes and label_map is None else label_map
    mask_map = label_map if stored is not None and not classes else None
    if structures is None and stored is not None and label_map is None:
        structures = stored.structures
    regions = None if structures is None else _regions(structures, truth_map)
    scored: dict[str, dict[str, dict[str, float]]] = {}
    predicted, true = {0}, {0}
    for case, paths in pairs.items():
        prediction, truth, spacing = read_pair(*paths, mask_map, truth_map)
        held, due = {*label_values(prediction)}, {*label_values(truth)}
        each = {str(label): (label,) for label in sorted(held | due) if label}
        scored[case] = mask_scores(prediction, truth, each if regions is None else regions, spacing)
        predicted |= held
        true |= due
    strangers = predicted - true
    if len(strangers) > MANY:
        raise DataError(
            f"The files in {predictions} have {len(strangers)} labels that no truth in {truths} has, such as "
            f"{sorted(strangers)[:5]}. They look like scans. Name the folder of the masks."
        )
    names = [str(label) for label in sorted(predicted | true) if label] if regions is None else list(regions)
    table = CaseTable({case: structure_columns(scores, names) for case, scores in scored.items()})
    for strange, where, other in ((true - predicted, "truths", "mask"), (strangers, "masks", "truth")):
        if strange and stored is None and label_map is None:
            notes.append(
                f"Note: the {where} have the label(s) {', '.join(map(str, sorted(strange)))}, which no {other} has. If the masks "
                "hold merged or renumbered classes, say which with --label_map, such as '{1: 1, 2: 1, 4: 2}'"
            )
    return FolderScores(table, tuple(notes))


def _regions(structures: Mapping[str, Sequence[int]], label_map: Mapping[int, int] | None) -> Structures:
    """Return name → values of each structure in masks to which a label map was applied."""
    values = label_map.values() if label_map else (label for labels in structures.values() for label in labels)
    return classes_of_structures(structures, label_map, max(values, default=0) + 1)


def read_pair(
    prediction: Path, truth: Path, mask_map: Mapping[int, int] | None, truth_map: Mapping[int, int] | None
) -> tuple[Tensor, Tensor, list[float]]:
    """Read a predicted and a true mask on one grid, int64 (D, H, W), and the distance between voxels along each axis in mm.

    Args:
        prediction: file of the mask.
        truth: file of the true mask.
        mask_map: label → class, applied to the prediction; None keeps its values.
        truth_map: label → class, applied to the truth.

    Raises:
        DataError: if a file cannot be read or does not hold labels, shapes or affines differ, or a label is not in its map.
    """
    known = load_volume(truth, dtype=None)
    masks = map_labels(read_label(prediction, known), mask_map, str(prediction))
    spacing = np.linalg.norm(known.affine[:3, :3], axis=0).tolist()
    return masks, map_labels(whole_labels(known.voxels[0], str(known.path)), truth_map, str(truth)), spacing
