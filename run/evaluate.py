#!/usr/bin/env python
"""Score a folder of predicted masks against a folder of true ones.

Both hold NIfTI or PNG files on the same grids, matched by name: NAME.nii.gz or NAME_mask.nii.gz (as run/predict.py writes)
against NAME.nii.gz. A case is scored over the structures that occur in its truth or in its prediction.

    python run/evaluate.py --predictions runs/my_run/predictions --truths my_labels --output my_scores --allow_missing
"""

import pyro_dwp.launch  # noqa: F401  # isort: skip  (first, so that Ctrl-C during the other imports ends quietly)

import sys
from pathlib import Path

from pyro_dwp.data.structures import Structures
from pyro_dwp.predict import score_folders
from pyro_dwp.runs import run_script


def main(
    predictions: str,
    truths: str,
    output: Path | None = None,
    label_map: dict[int, int] | None = None,
    structures: Structures | None = None,
    allow_missing: bool = False,
) -> None:
    """Print Dice, IoU and HD95 (mm) of each case, their mean and standard deviation over cases.

    Args:
        predictions: folder of predicted masks (.nii.gz, .nii or .png, non-negative whole numbers).
        truths: folder of true masks on the same grids.
        output: folder for scores.json and scores.csv; null writes nothing.
        label_map: class of each label of the truths, if the predictions of another program have merged or renumbered some, such
            as {1: 1, 2: 1}. Predictions of run/predict.py say it themselves, in labels.json.
        structures: what is scored, and the labels that make each up, such as {whole tumour: [1, 2, 4], tumour core: [1, 4]};
            they may overlap. null takes those in labels.json, and without them each label for one.
        allow_missing: score what there is, and name the truths without a prediction.
    """
    scores = score_folders(predictions, truths, label_map, structures, allow_missing)
    print(scores.table.to_text(), *scores.notes, sep="\n")
    if output is not None:
        print("Written:", *scores.table.save(output))


if __name__ == "__main__":
    sys.exit(run_script(main))
