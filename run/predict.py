#!/usr/bin/env python
"""Segment new scans with a trained run: masks, and maps of where not to trust them.

For each scan NAME.nii.gz, four volumes on the scan's own grid and affine: NAME_mask (most probable label), NAME_probability
(mean over the posterior), NAME_entropy (all uncertainty, nats) and NAME_mutual_information (what more training scans could
remove, nats). Of PNG images, NAME_mask.png and so on, in whose maps white (65535) is 1, or the logarithm of the number of
classes.

    python run/predict.py --run runs/my_run --images my_scans --output my_masks
"""

import pyro_dwp.launch  # noqa: F401  # isort: skip  (first, so that Ctrl-C during the other imports ends quietly)

import sys
from pathlib import Path
from typing import Annotated

from pydantic import PositiveInt
from rich.progress import track

from pyro_dwp.data import FolderPairs, check_cases
from pyro_dwp.predict import MaskLabels, Overlap, Samples, check_output, predict_scan, write_prediction
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
    overwrite: bool = False,
) -> None:
    """Predict one scan or a folder of scans.

    Args:
        run: folder of a run of run/svi_target.py.
        images: NIfTI or PNG file, or folder of them, with the channels that the run was trained on.
        output: folder for the results; not the folder of the scans.
        samples: networks drawn from the posterior; null takes the run's number.
        seed: seed of the draws; every scan sees the same networks.
        window: edges of a sliding window in voxels of the network's grid, for volumes that do not fit into memory; null takes the
            patch of the run, or predicts a volume at once if it learned from whole scans.
        overlap: share of a window's edge that it has in common with its neighbour.
        overwrite: replace results of these scans in the output folder.
    """
    configure_pyro(validation=False)
    posterior = load_posterior(run, machine.use())
    scans = FolderPairs(str(images), channels=posterior.channels)
    names, preprocess = scans.names(), posterior.preprocess
    checked = check_cases(scans, names, preprocess, posterior.classes, posterior.channels, labelled=False)
    check_output(output, names, images, overwrite, MaskLabels.of(preprocess, posterior.classes))
    print(checked.describe())
    drawn, slid = samples or posterior.samples, window or posterior.window
    for name in track(names, "scans"):
        scan = scans.load(name)
        prediction = predict_scan(posterior.draw, scan, preprocess, drawn, seed, slid, overlap, device=machine.device)
        write_prediction(output, prediction, scan, preprocess)
    print(f"{len(names)} scan(s) predicted: {output}")


if __name__ == "__main__":
    sys.exit(run_script(main))
