#!/usr/bin/env python
"""Segment new scans with a trained run: masks, and maps of where not to trust them.

For each scan NAME.nii.gz, volumes on the scan's own grid and affine: NAME_mask (most probable label), NAME_probability (mean over
the posterior; one for each structure), NAME_entropy (all uncertainty, nats) and NAME_mutual_information (what more training scans
could remove, nats). Of PNG images, NAME_mask.png and so on, in whose maps white (65535) is 1, or the logarithm of the number of
classes.

review.csv says of each scan, the most doubtful first, which Dice to expect, the volume of each structure with its interval, and
which slices to look at.

    python run/predict.py --run runs/my_run --images my_scans --output my_masks
"""

import pyro_dwp.launch  # noqa: F401  # isort: skip  (first, so that Ctrl-C during the other imports ends quietly)

import sys
from pathlib import Path
from typing import Annotated

from pydantic import PositiveInt

from pyro_dwp.data import Folder, check_cases
from pyro_dwp.predict import (
    MAPS,
    Maps,
    MaskLabels,
    Overlap,
    Postprocess,
    Precision,
    Samples,
    check_output,
    describe_review,
    review_case,
    write_prediction,
    write_review,
)
from pyro_dwp.progress import track
from pyro_dwp.runs import load_posterior, run_script
from pyro_dwp.settings import Flat
from pyro_dwp.train import Machine, configure_pyro


def main(
    run: Path,
    images: Path,
    output: Path,
    machine: Annotated[Machine, Flat()],
    samples: Samples | None = None,
    seed: int = 0,
    window: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None,
    overlap: Overlap = 0.25,
    postprocess: Postprocess | None = None,
    maps: Maps = MAPS,
    map_precision: Precision = "uint8",
    overwrite: bool = False,
) -> None:
    """Predict one scan or a folder of scans.

    Args:
        run: folder of a run of run/svi_target.py.
        images: one scan, or a folder of scans in any usual layout, with the sequences that the run was trained on.
        output: folder for the results; not the folder of the scans.
        samples: networks drawn from the posterior; null takes the run's number.
        seed: seed of the draws; every scan sees the same networks.
        window: edges of a sliding window in voxels of the network's grid, for volumes that do not fit into memory; null takes the
            patch of the run, or predicts a volume at once if it learned from whole scans.
        overlap: share of a window's edge that it has in common with its neighbour.
        postprocess: what is done to masks after the network; null does what the run did.
        maps: written beside the masks: any of probability, entropy, mutual_information and structure_entropy.
        map_precision: of these maps: 8 bits, 1/255 of the largest value a step, or exact values.
        overwrite: replace results of these scans in the output folder.
    """
    configure_pyro(validation=False)
    posterior = load_posterior(run, machine.use())
    scans = Folder.like(images, posterior.channels, posterior.sequences)
    names, preprocess = sorted({*scans.names(), *scans.unlabelled()}), posterior.preprocess
    checked = check_cases(scans, names, preprocess, posterior.classes, posterior.channels, labelled=False)
    check_output(output, names, images, overwrite, MaskLabels.of(preprocess, posterior.classes))
    print(checked.describe())
    predictor = posterior.predictor(samples, seed, window, overlap, postprocess)
    structures, calibration = preprocess.classes_of_structures(posterior.classes), posterior.calibration
    reviews = []
    for name in track(names, "scans"):
        scan = scans.load(name)
        prediction = predictor.predict(scan)
        write_prediction(output, prediction, scan, preprocess, maps, map_precision)
        reviews.append(review_case(scan, prediction, structures, calibration))
    write_review(output, reviews)
    print(describe_review(reviews), calibration.describe(), sep="\n")
    print(f"{len(names)} scan(s) predicted: {output}")


if __name__ == "__main__":
    sys.exit(run_script(main))
