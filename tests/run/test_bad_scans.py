"""Bad scans, from one end to the other: one error that names file, finding and cure, status 2, and nothing left behind."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from pyro_dwp.data import FolderPairs, SplitPlan

PAIRS = ["--data", "folder_pairs", "--data.images", "data/images", "--data.labels", "data/labels"]
IMAGE, LABEL, MASK = "data/images/{case}.nii.gz", "data/labels/{case}.nii.gz", "data/masks/{case}.nii.gz"
MOVED = np.diag([-6.0, 6.0, 6.0, 1.0])


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray] = np.asarray, affine: Any = None) -> None:
    """Replace a volume by a changed one; with nibabel itself, because `write_volume` writes nothing wrong."""
    image = nib.load(path)
    changed = nib.Nifti1Image(change(np.asarray(image.dataobj)), image.affine if affine is None else affine)
    path.unlink()
    nib.save(changed, path)


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


IMAGES = {  # what is done to an image, tokens
    "missing": (lambda image: shutil.rmtree(image.parent), ["data/images", "does not exist"]),
    "empty": (lambda image: [file.unlink() for file in image.parent.iterdir()], ["data/images", "no"]),
    "four axes": (lambda image: rewrite(image, lambda it: np.stack([it] * 2, -1)), [IMAGE, "(16, 16, 16, 2)"]),
    "not finite": (lambda image: rewrite(image, lambda it: np.where(it > it.mean(), np.nan, it)), [IMAGE, "finite"]),
    "constant": (lambda image: rewrite(image, lambda it: np.full_like(it, 3)), [IMAGE, "every voxel"]),
    "truncated": (shorten, [IMAGE, "again"]),
    "no volume": (lambda image: image.write_text("This is no image."), [IMAGE, "again"]),
}
LABELS = {
    "without label": (Path.unlink, ["{case}", "data/labels", "1 of 6", "Add the labels"]),
    "other shape": (lambda label: rewrite(label, lambda it: it[:-1]), [LABEL, IMAGE, "15", "Resample"]),
    "other affine": (lambda label: rewrite(label, affine=MOVED), [LABEL, IMAGE, "mm", "Resample"]),
    "unknown label": (lambda label: rewrite(label, lambda it: 7 * it), [LABEL, "7", "label_map"]),
    "fractions": (lambda label: rewrite(label, lambda it: 0.5 * it), [LABEL, "whole numbers"]),
    "truncated label": (shorten, [LABEL, "again"]),
}
MASKS = {  # what is done to a mask and its truth, tokens
    "without mask": (lambda mask, truth: mask.unlink(), ["{case}", "data/masks", "--allow_missing"]),
    "shape": (lambda mask, truth: rewrite(truth, lambda it: it[:-1]), [MASK, LABEL, "15", "Resample"]),
    "truncated": (lambda mask, truth: shorten(mask), [MASK, "again"]),
    "not in the map": (lambda mask, truth: rewrite(truth, lambda it: 7 * it), [LABEL, "7", "label_map"]),
}
SCRIPTS = {  # script, part of the split that the damaged scan is in, flags
    "learn from": ("svi_target", "train", [*PAIRS, "--preprocess.label_map", "{1: 1}"]),
    "test on": ("svi_target", "test", PAIRS),
    "source": ("train_source", "train", PAIRS),
    "predict": ("predict", "train", ["--images", "data/images"]),
}


@pytest.mark.parametrize(
    ("place", "damage"), [(it, how) for it in SCRIPTS for how in [*IMAGES, *LABELS] if it != "predict" or how in IMAGES]
)
def test_a_bad_scan_stops_a_script_before_it_begins(refused, small, data, place, damage):
    script, part, flags = SCRIPTS[place]
    plan = SplitPlan(train=2, validation=1, test=2 if script == "svi_target" else 0)
    case = getattr(plan.draw(FolderPairs(str(data / "images")).names()), part)[0]
    how, tokens = (IMAGES | LABELS)[damage]
    how(data / ("images" if damage in IMAGES else "labels") / f"{case}.nii.gz")
    refused([token.format(case=case) for token in tokens], script, *small[script], *flags)


@pytest.mark.parametrize("damage", MASKS)
def test_masks_that_cannot_be_scored(refused, data, damage):
    shutil.copytree(data / "labels", data / "masks")
    how, tokens = MASKS[damage]
    how(*(data / part / "tumour_001.nii.gz" for part in ("masks", "labels")))
    flags = ["--predictions", "data/masks", "--truths", "data/labels", "--label_map", "{1: 1}", "--output", "scores"]
    refused([token.format(case="tumour_001") for token in tokens], "evaluate", *flags)
