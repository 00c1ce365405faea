"""Fit, predict, look: the whole method in a notebook, on folders of scans or on arrays.

It does with objects what run/svi_target.py does with flags, from the same settings, and makes no run.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import nn

from models.segmentation import SegmentationModel
from pyro_dwp.data import Augment, CaseSource, Image, Patches, Preprocess, Sequences, Spacing, SplitPlan
from pyro_dwp.errors import ConfigError, Interrupted
from pyro_dwp.infer import AuxiliaryELBO, Estimator, SharedSample, check_guide, weight_scales
from pyro_dwp.intake import proposed_settings
from pyro_dwp.likelihoods import Likelihood
from pyro_dwp.nn import NetworkFactory, UNet
from pyro_dwp.predict import (
    Evaluation,
    Postprocess,
    Prediction,
    Predictor,
    Samples,
    calibrate,
    score_cases,
)
from pyro_dwp.priors import Prior
from pyro_dwp.progress import track
from pyro_dwp.report import Drawing, learning_curves, show_case
from pyro_dwp.runs import RunCases, read_cases
from pyro_dwp.settings import Flat, merge, resolve
from pyro_dwp.sites import Sites, classes_and_channels
from pyro_dwp.train import History, Machine, Schedule, VariationalTask, configure_pyro, fit
from pyro_dwp.transfer import scale_parameters, start_function


@dataclass(frozen=True)
class Settings:
    """Those of run/svi_target.py that a `Segmenter` takes."""

    likelihood: Likelihood
    elbo: Annotated[Callable[[dict], AuxiliaryELBO], Flat()]
    plan: Annotated[SplitPlan, Flat()]
    machine: Annotated[Machine, Flat()]
    patches: Annotated[Patches, Flat()]
    preprocess: Preprocess
    schedule: Schedule
    samples: Samples
    network: NetworkFactory = UNet
    postprocess: Postprocess | None = None
    augment: Augment | None = Augment()  # noqa: RUF009 (immutable)
    estimator: Callable[[], Estimator] = SharedSample
    initial_scale: PositiveFloat = 1.0
    encoder_learning_rate: NonNegativeFloat = 1e-4
    clip_norm: PositiveFloat | None = None
    seed: int = 0


class Segmenter:
    """A Bayesian segmentation network, fitted to a few labelled scans.

    What is not set is chosen to fit the scans and the machine, as by `run/svi_target.py --data FOLDER`: grid, classes, channels,
    patches, length of the training, and so on.

    Args:
        prior: of the convolution kernels.
        guide: makes the posterior's family from the weight sites, such as `guides.MeanField`.
        settings: of run/svi_target.py that replace the chosen ones, as its configs spell them, such as `seed=1` or
            `schedule={"steps": 100}`.

    Attributes:
        split: names of the cases that were learned from, validated with and set aside; these attributes are there after `fit`.
        history: of the training, epoch by epoch.
        weight_scales: the posterior's beside the prior's, before and after the training, see `infer.weight_scales`.
        calibration: of probabilities and volumes, on the validation scans.

    Raises:
        ConfigError: if there is no such setting, or its value does not fit.

    Example:
        >>> from guides import MeanField
        >>> from pyro_dwp import Gaussian, Phantoms
        >>> cases = Phantoms(cases=3, shape=(8, 8, 8))
        >>> brief = Segmenter(Gaussian(), MeanField, network={"channels": [2, 4]}, schedule={"steps": 1}, samples=2)
        >>> brief.fit(cases)
        Phantoms: 3 labelled scans, of which 2 to learn from, 0 to validate with and 1 to test on...
        >>> brief.predict(cases.load("tumour_001")).mask.shape
        torch.Size([8, 8, 8])
    """

    def __init__(self, prior: Prior, guide: Callable[[Sites], Any], **settings: Any) -> None:
        resolve(Settings, settings, complete=False)
        self.prior, self.guide, self.settings = prior, guide, settings
        self.history = History()
        self._predictor: Predictor | None = None

    def fit(self, cases: CaseSource, folder: Path | str | None = None, resume: bool = False) -> None:
        """Infer the posterior from labelled cases, of which some are set aside to validate with and to test on.

        Args:
            cases: such as `Folder("my_scans")` or `Arrays(images, labels, spacing=(1, 1, 3))`.
            folder: where checkpoints and the history are kept; None keeps nothing.
            resume: continue from the checkpoint in the folder.

        Raises:
            DataError: if a case cannot be used.
            ConfigError: if prior, guide, network and cases do not fit together.
            Interrupted: if it was stopped.
        """
        configure_pyro(validation=False)
        chosen = proposed_settings(cases, self.settings)
        for own in ("prior", "guide"):
            del chosen[own]
        how: Settings = resolve(Settings, merge(chosen, self.settings)).build()
        device = how.machine.use()
        torch.manual_seed(how.seed)
        network = scale_parameters(how.network(), how.initial_scale)
        found = read_cases(None, cases, how.plan, how.preprocess, network, how.patches)
        print(found.notes)
        task = self._task(how, network, found, device)
        scales = lambda: weight_scales(task.model.sites, self.prior, task.guide)  # noqa: E731
        before = scales()
        with _place(folder) as place:
            history = fit(task, how.schedule, place, how.seed, resume)
        channels = classes_and_channels(network)[1]
        raw = Predictor(
            task.draw,
            how.preprocess,
            how.samples,
            how.seed,
            how.patches.patch,
            device=device,
            postprocess=how.postprocess,
            sequences=Sequences(channels, found.sequences),
        )
        self.calibration = calibrate(raw, cases, found.split.validation)
        self._predictor = replace(raw, temperature=self.calibration.temperature)
        self.cases, self.split, self.history = cases, found.split, history
        self.weight_scales = {"before": before, "after": scales()}

    def _task(self, how: Settings, network: nn.Module, found: RunCases, device: torch.device) -> VariationalTask:
        model = SegmentationModel(network, self.prior, how.likelihood, computing=how.machine.computing)
        guide = self.guide(model.sites)
        guide.start(start_function("prior", model.sites, network, self.prior), self.prior)
        check_guide(model.sites, self.prior, guide)
        rates = {"posterior": how.schedule.learning_rate, "encoders": how.encoder_learning_rate}
        steps = rates, how.clip_norm, how.estimator(), how.augment, how.patches, device
        return VariationalTask(model, guide, how.elbo(self.prior.encoders()), found.training, found.validation, *steps)

    @property
    def predictor(self) -> Predictor:
        """From a scan to its prediction.

        Raises:
            ConfigError: if nothing has been fitted.
        """
        if self._predictor is None:
            raise ConfigError("A segmenter predicts after it has learned from labelled cases. Call fit(cases) first.")
        return self._predictor

    def predict(self, image: Image, spacing: Spacing | None = None) -> Prediction:
        """Return mask, probabilities and uncertainty of a scan, on its own grid.

        Args:
            image: a path, an array (D, H, W) or (C, D, H, W), or a scan, see `data.Image`.
            spacing: of an array, distance between voxels along each axis, in mm.

        Raises:
            ConfigError: if nothing has been fitted, or an array comes without a spacing.
            DataError: if the image cannot be used, or has other channels than the network.
        """
        return self.predictor.predict(image, spacing)

    def show(self, image: Image, prediction: Prediction | None = None, spacing: Spacing | None = None) -> Drawing:
        """Draw a slice of a scan, its label if it has one, the predicted mask and the uncertainty.

        Args:
            image: as for `predict`.
            prediction: of the image; None predicts it.
            spacing: as for `predict`.
        """
        scan = self.predictor.scan(image, spacing)
        return show_case(scan, prediction or self.predict(scan), self.predictor.preprocess)

    def show_training(self) -> Drawing:
        """Draw the learning curves.

        Raises:
            ConfigError: if nothing has been fitted.
        """
        return Drawing(learning_curves(self.history.rows, unit="nats"))

    def score(self, cases: CaseSource | None = None, names: Sequence[str] | None = None) -> Evaluation:
        """Predict labelled cases and score them.

        Args:
            cases: to score; None takes those of the fit.
            names: of some of them; None takes all, but of those of the fit the test scans that were set aside.

        Raises:
            ConfigError: if nothing has been fitted, or no test scans were set aside.
            DataError: if a case has no label, or cannot be used.
        """
        predictor, source = self.predictor, cases or self.cases
        chosen = names or (cases.names() if cases else self.split.held_out("test"))
        found = Evaluation("test", predictor.samples, self.calibration)
        for case in track(score_cases(predictor, source, chosen, calibration=self.calibration), "scans", len(chosen)):
            found.add(case)
        return found


@contextmanager
def _place(folder: Path | str | None) -> Iterator[Path]:
    """Yield the folder of a training, a temporary one where nothing is to be kept."""
    if folder is not None:
        yield Path(folder)
        return
    with tempfile.TemporaryDirectory() as temporary:
        try:
            yield Path(temporary)
        except Interrupted as stopped:
            raise Interrupted("Stopped, and nothing was kept. Give fit a folder for checkpoints.") from stopped
