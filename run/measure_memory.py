#!/usr/bin/env python
"""Measure the largest memory that training or prediction takes on scans of any size, phantoms of CT.

python run/measure_memory.py --shape [512,512,400] --stage predict
python run/measure_memory.py --shape [512,512,400] --stage train --spacing [1.5,1.5,1.5]
"""

import pyro_dwp.launch  # noqa: F401  # isort: skip  (first, so that Ctrl-C during the other imports ends quietly)

import json
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from guides import MeanField
from models.segmentation import SegmentationModel
from pyro_dwp.data import Augment, CaseSource, Patches, Preprocess, check_cases
from pyro_dwp.infer import AuxiliaryELBO
from pyro_dwp.likelihoods import DiceCrossEntropy
from pyro_dwp.nn import UNet
from pyro_dwp.predict import Network, Predictor, score_cases
from pyro_dwp.priors import Gaussian
from pyro_dwp.runs import run_script
from pyro_dwp.runs.memory import ct_phantoms, measured
from pyro_dwp.settings import Flat
from pyro_dwp.train import VariationalTask
from pyro_dwp.transfer import start_function

Voxel = tuple[PositiveFloat, PositiveFloat, PositiveFloat]
WIDTHS = (2, 2)  # channels of a U-Net that is fast: the memory of the volumes is measured, not that of the network
LIMITS = (1.0, 3.7)  # normalised intensities from which on a voxel is organ and tumour


def main(
    patches: Annotated[Patches, Flat()],
    stage: Literal["train", "predict"] = "predict",
    shape: tuple[PositiveInt, PositiveInt, PositiveInt] = (512, 512, 400),
    voxel: Voxel = (0.8, 0.8, 1.0),
    spacing: Voxel | None = None,
    samples: PositiveInt = 2,
    steps: PositiveInt = 3,
    output: Path | None = None,
) -> None:
    """Write phantoms to a temporary folder, train on two or predict one, and print the peak of resident memory as JSON.

    Args:
        stage: train reads and prepares two scans, learns from patches of them and validates with one; predict reads a scan,
            predicts and scores it, and writes its mask and maps.
        shape: voxels of a scan along each axis.
        voxel: distance between voxels of a scan, in mm.
        spacing: distance between voxels of the network's grid, in mm; null keeps the scan's.
        samples: networks drawn to predict with.
        steps: steps of training.
        output: file for the numbers, too.
    """
    patches = patches if patches.patch else Patches((128, 128, 128), patches.balance)
    preprocess = Preprocess(spacing=spacing, crop_to_head=False)
    with tempfile.TemporaryDirectory() as name:
        source = ct_phantoms(Path(name), shape, voxel, {"train": 2, "predict": 1}[stage])
        if stage == "train":
            found = measured(lambda: train(source, preprocess, patches, steps))
        else:
            found = measured(lambda: predict(source, preprocess, patches, samples, Path(name)))
    settings = {"stage": stage, "shape": shape, "spacing": spacing, "patch": patches.patch, "torch": torch.__version__}
    print(text := json.dumps(settings | found))
    if output is not None:
        output.write_text(text)


def train(source: CaseSource, preprocess: Preprocess, patches: Patches, steps: int) -> None:
    """Read and prepare all scans, take some steps of inference on patches of two, and validate with one."""
    network = UNet(classes=3, channels=WIDTHS)
    cases = check_cases(source, source.names(), preprocess, classes=3, keep=source.names())
    training, prior = list(cases.prepared.values()), Gaussian()
    model = SegmentationModel(network, prior, DiceCrossEntropy())
    guide = MeanField(model.sites)
    guide.start(start_function("prior", model.sites, network, prior, lambda: network), prior)
    bound, rates = AuxiliaryELBO(prior.encoders()), {"posterior": 1e-3, "encoders": 1e-4}
    task = VariationalTask(model, guide, bound, training, training[:1], rates, augment=Augment(), patches=patches)
    for _ in range(steps):
        task.step(torch.tensor([0, 1]))
    task.validate()


def predict(source: CaseSource, preprocess: Preprocess, patches: Patches, samples: int, folder: Path) -> None:
    """Read, predict and score each scan, and write mask and maps."""
    predictor = Predictor(draw, preprocess, samples, window=patches.patch)
    for case in score_cases(predictor, source, source.names(), folder / "predictions"):
        print(f"{case.scan.name}: Dice {case.scores['dice']:.3f}")


def draw() -> Network:
    """Return a random network that finds organ and tumour by their intensity: its mask has the surface of a real one."""
    network = UNet(classes=3, channels=WIDTHS)

    def segment(image: Tensor) -> Tensor:
        organ, tumour = (4 * (image - limit) for limit in LIMITS)
        return torch.cat([0 * image, organ, organ + tumour], 1) + 0.01 * network(image)

    return segment


if __name__ == "__main__":
    sys.exit(run_script(main))
