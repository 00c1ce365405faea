#!/usr/bin/env python
"""Score a folder of predicted masks against a folder of true ones.

Both hold NIfTI files on the same grids, matched by file name: NAME.nii.gz or NAME_mask.nii.gz (as run/predict.py
writes) against NAME.nii.gz. Truths without a prediction are passed over; a prediction without a truth is an error.

Example:
    python run/evaluate.py --predictions runs/my_run/predictions --truths my_labels --output my_scores
"""

import sys
from pathlib import Path

from pyro_dwp.cli import run_script
from pyro_dwp.predict import score_folders


def main(
    predictions: str,
    truths: str,
    output: Path | None = None,
    classes: int | None = None,
    label_map: dict[int, int] | None = None,
) -> None:
    """Print Dice and IoU of each case, their mean and standard deviation over cases.

    A class that is empty in both masks scores 1, one that is empty in only one of them 0.

    Args:
        predictions: folder of predicted masks (.nii.gz or .nii, whole numbers from 0 on).
        truths: folder of true masks on the same grids.
        output: folder that receives scores.json and scores.csv; None writes nothing.
        classes: number of classes, background included; None counts up to the largest label in either folder.
        label_map: class of each label that the truths store, where the predictions have merged some, for instance
            {1: 1, 2: 1}; None keeps them.
    """
    table = score_folders(predictions, truths, classes, label_map)
    print(table.to_text())
    if output is not None:
        print("Written:", *table.save(output))


if __name__ == "__main__":
    sys.exit(run_script(main))
