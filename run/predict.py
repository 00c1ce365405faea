#!/usr/bin/env python
"""Segment new scans with a trained run: masks, and maps of where not to trust them.

For each scan NAME.nii.gz, four volumes on the scan's own grid and affine: NAME_mask (most probable class),
NAME_probability (mean over the posterior), NAME_entropy (all uncertainty, nats) and NAME_mutual_information (what more
training scans could remove, nats).

Example:
    python run/predict.py --run runs/my_run --images my_scans --output my_masks
"""

import sys
from pathlib import Path

from rich.progress import track

from pyro_dwp.cli import run_script
from pyro_dwp.cli.trained import load_run
from pyro_dwp.data import case_name, nifti_files, read_scan
from pyro_dwp.predict import predict_scan, write_prediction
from pyro_dwp.train import configure_pyro, use_machine


def main(
    run: Path,
    images: Path,
    output: Path,
    samples: int | None = None,
    seed: int = 0,
    window: tuple[int, int, int] | None = None,
    overlap: float = 0.25,
    device: str = "cpu",
    threads: int | None = None,
) -> None:
    """Predict one scan or a folder of scans.

    Args:
        run: folder of a run of run/svi_target.py.
        images: a NIfTI file, or a folder of them, with the channels that the run was trained on.
        output: folder that receives the maps; made where it is missing.
        samples: networks drawn from the posterior; None takes the run's number.
        seed: of the draws; every scan sees the same networks.
        window: edges of a sliding window in voxels of the network's grid, for volumes that do not fit into memory; None
            predicts a volume at once.
        overlap: share of a window's edge that it has in common with its neighbour, from 0 to below 1.
        device: where to compute, such as cpu or cuda.
        threads: CPU threads; None leaves torch's choice.
    """
    configure_pyro(validation=False)
    use_machine(device, threads)
    trained = load_run(run, device)
    files = nifti_files(images) if images.is_dir() else {case_name(images): images}
    drawn = trained.samples if samples is None else samples
    for name, path in files.items():
        read_scan(name, [path], modalities=trained.channels)  # all are sound before the first map is written
    for name, path in track(files.items(), "scans", total=len(files)):
        scan = read_scan(name, [path], modalities=trained.channels)
        prediction = predict_scan(trained.draw, scan, trained.preprocess, drawn, seed, window, overlap, device=device)
        write_prediction(output, name, prediction, scan.affine)
    print(f"{len(files)} scan(s) predicted: {output}")


if __name__ == "__main__":
    sys.exit(run_script(main))
