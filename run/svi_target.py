#!/usr/bin/env python
"""Fit a segmentation network to a few labelled scans by variational inference under a prior over its kernels.

python run/svi_target.py                    # 5 phantoms of a tumour to learn from, the deep weight prior that ships
python run/svi_target.py --guide point --prior gaussian --kl_weight 0 --start random             # without any prior
"""

import pyro_dwp.launch  # noqa: F401  # isort: skip  (first, so that Ctrl-C during the other imports ends quietly)

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
from pydantic import NonNegativeFloat, PositiveFloat

from guides import Guide
from models.segmentation import SegmentationModel
from pyro_dwp import Augment, CaseSource, Likelihood, Patch, Preprocess, Prior, SplitPlan
from pyro_dwp.files import write_json
from pyro_dwp.infer import AuxiliaryELBO, Estimator, SharedSample, check_guide, describe_scales, weight_scales
from pyro_dwp.nn import NetworkFactory
from pyro_dwp.predict import Scoring
from pyro_dwp.report import draw_run
from pyro_dwp.runs import Run, read_cases, run_script
from pyro_dwp.settings import Flat
from pyro_dwp.sites import Sites
from pyro_dwp.train import Logbook, Machine, Ranks, Schedule, VariationalTask, configure_pyro, fit
from pyro_dwp.transfer import StartKind, scale_parameters, start_function, take_over


def main(
    data: CaseSource,
    prior: Prior,
    guide: Callable[[Sites], Guide],
    likelihood: Likelihood,
    network: NetworkFactory,
    elbo: Annotated[Callable[[dict], AuxiliaryELBO], Flat()],
    plan: Annotated[SplitPlan, Flat()],
    scoring: Annotated[Scoring, Flat()],
    run: Annotated[Run, Flat()],
    machine: Annotated[Machine, Flat()],
    ranks: Annotated[Ranks, Flat()],
    preprocess: Preprocess,
    schedule: Schedule,
    augment: Augment | None = Augment(),  # noqa: B008 (immutable)
    patch: Patch | None = None,
    estimator: Callable[[], Estimator] = SharedSample,
    start: StartKind = "prior",
    source: Path | None = None,
    freeze: tuple[str, ...] = (),
    initial_scale: PositiveFloat = 1.0,
    encoder_learning_rate: NonNegativeFloat = 1e-4,
    clip_norm: PositiveFloat | None = None,
    seed: int = 0,
) -> None:
    """Infer the weights of a segmentation network from a few scans, then score it on held-out ones.

    Args:
        data: labelled cases of the target disease.
        prior: distribution of a convolution kernel.
        guide: variational family of the weights.
        likelihood: how labels are scored given the network's output.
        network: class of the network.
        preprocess: how a scan becomes the network's input.
        schedule: length, batch size and learning rate (of the guide and of the network's point parameters).
        augment: random variations of the training scans; null learns from the scans as they are.
        patch: edges of random patches to learn from and of the window to predict with, voxels; null takes whole scans.
        estimator: how the noise of the weights enters the data term, and so how noisy its gradient is.
        start: weights that the guide starts from: a draw of the prior, a trained network (source), or He's (random).
        source: network saved by run/train_source.py, which also gives the point parameters.
        freeze: patterns of the names of parameters that keep the source's values, such as "down[2-6].*".
        initial_scale: factor on He's initialisation of the network, for point parameters and --start random.
        encoder_learning_rate: learning rate of the auxiliary encoders r(z|w), per step.
        clip_norm: largest L2 norm of the gradient, for the guide and the encoders separately; null does not clip.
        seed: seed of initialisation, order of the scans, noise of the inference and of the prediction.
    """
    configure_pyro(validation=False)
    device = machine.use(ranks)
    torch.manual_seed(seed)

    # The data: every scan of the run is read and checked before anything is trained.
    make_network = lambda: scale_parameters(network(), initial_scale)  # noqa: E731
    target = make_network()
    take_over(target, source, start, freeze)
    cases = read_cases(run, data, plan, preprocess, target, patch)
    held_out = cases.split.held_out(scoring.score)

    # The program: network, prior and likelihood make the model; the guide approximates its posterior.
    model = SegmentationModel(target, prior, likelihood, precision=machine.precision)
    posterior = guide(model.sites)
    posterior.start(start_function(start, model.sites, target, prior, make_network), prior)
    check_guide(model.sites, prior, posterior)
    bound = elbo(prior.encoders())
    rates = {"posterior": schedule.learning_rate, "encoders": encoder_learning_rate}
    steps = rates, clip_norm, estimator(), augment, patch, device, ranks
    task = VariationalTask(model, posterior, bound, cases.training, cases.validation, *steps)

    folder = cases.begin(run, model.sites, ranks)
    print(f"{folder}: {len(cases.training)} scans, KL weight {bound.kl_weight}", cases.notes, sep="\n")
    print("Before inference:", describe_scales(weight_scales(model.sites, prior, posterior)), sep="\n")
    with Logbook(folder) as logbook:
        history = fit(task, schedule, folder, seed, run.resumed, logbook, ranks=ranks)
    if not ranks.leave():
        return  # rank 0 predicts alone
    scales = weight_scales(model.sites, prior, posterior)
    print("After inference:", describe_scales(scales), sep="\n")

    # Prediction: the test scans are predicted here, for the first time. Pictures come last, when the scores are safe.
    table, shown = scoring.table(task.draw, data, cases.split, preprocess, seed, folder, device, patch)
    found = {scoring.score: table.to_dict(), "elbo": history.rows[-1], "weight_scales": scales}
    write_json(folder / "metrics.json", found | history.cost() | machine.cost())
    draw_run(folder, history.rows, shown, model.sites, posterior(), prior)
    print(f"{table.headline()} over {len(held_out)} {scoring.score} scan(s): {folder}")


if __name__ == "__main__":
    sys.exit(run_script(main, "quick"))
