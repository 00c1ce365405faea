#!/usr/bin/env python
"""Fit a segmentation network to a few labelled scans by variational inference under a prior over its kernels.

python run/svi_target.py                    # 5 phantoms of a tumour to learn from, the deep weight prior that ships
python run/svi_target.py --guide point --prior gaussian --kl_weight 0 --start random             # without any prior
"""

import pyro_dwp.launch  # noqa: F401  # isort: skip  (first, so that Ctrl-C during the other imports ends quietly)

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat

from guides import Guide
from models.segmentation import SegmentationModel
from pyro_dwp import CaseSource, Likelihood, Preprocess, Prior
from pyro_dwp.data import SplitPlan, check_cases, read_split, write_split
from pyro_dwp.files import write_json
from pyro_dwp.infer import AuxiliaryELBO, Estimator, SharedSample, check_guide, describe_scales, weight_scales
from pyro_dwp.nn import NetworkFactory, check_network
from pyro_dwp.predict import Samples, score_cases, tabulate
from pyro_dwp.report import draw_run
from pyro_dwp.runs import Run, run_script
from pyro_dwp.settings import Flat
from pyro_dwp.sites import Sites, classes_and_channels
from pyro_dwp.train import Logbook, Machine, Schedule, VariationalTask, configure_pyro, fit
from pyro_dwp.transfer import StartKind, load_network, scale_parameters, start_function


def main(
    data: CaseSource,
    prior: Prior,
    guide: Callable[[Sites], Guide],
    likelihood: Likelihood,
    network: NetworkFactory,
    elbo: Annotated[Callable[[dict], AuxiliaryELBO], Flat()],
    plan: Annotated[SplitPlan, Flat()],
    run: Annotated[Run, Flat()],
    machine: Annotated[Machine, Flat()],
    preprocess: Preprocess,
    schedule: Schedule,
    estimator: Callable[[], Estimator] = SharedSample,
    start: StartKind = "prior",
    source: Path | None = None,
    initial_scale: PositiveFloat = 1.0,
    encoder_learning_rate: NonNegativeFloat = 1e-4,
    clip_norm: PositiveFloat | None = None,
    samples: Samples = 10,
    score: Literal["test", "validation"] = "test",
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
        estimator: how the noise of the weights enters the data term, and so how noisy its gradient is.
        start: weights that the guide starts from: a draw of the prior, a trained network (source), or He's (random).
        source: network saved by run/train_source.py, which also gives the point parameters; needed by --start source.
        initial_scale: factor on He's initialisation of the network, for point parameters and --start random.
        encoder_learning_rate: learning rate of the auxiliary encoders r(z|w), per step.
        clip_norm: largest L2 norm of the gradient, for the guide and the encoders separately; null does not clip.
        samples: networks drawn from the posterior to predict with.
        score: scans that are scored at the end; with validation the test scans are never predicted.
        seed: seed of initialisation, order of the scans, noise of the inference and of the prediction.
    """
    configure_pyro(validation=False)
    device = machine.use()
    torch.manual_seed(seed)

    # The data: every scan of the run is read and checked before anything is trained.
    make_network = lambda: scale_parameters(network(), initial_scale)  # noqa: E731
    target = make_network()
    if source or start == "source":
        load_network(source, target)
    split = read_split(run.folder / "split.json", data.names()) if run.resumed else plan.draw(data.names())
    checked = check_cases(data, split.names, preprocess, *classes_and_channels(target), keep=split.learned_from)
    training, validation = ([checked.prepared[name] for name in part] for part in (split.train, split.validation))
    check_network(target, training[0].image)

    # The program: network, prior and likelihood make the model; the guide approximates its posterior.
    model = SegmentationModel(target, prior, likelihood)
    posterior = guide(model.sites)
    posterior.start(start_function(start, model.sites, target, prior, make_network), prior)
    check_guide(model.sites, prior, posterior)
    bound = elbo(prior.encoders())
    rates = {"theta": schedule.learning_rate, "psi": encoder_learning_rate}
    task = VariationalTask(model, posterior, bound, training, validation, rates, 2, clip_norm, estimator(), device)

    folder = run.begin()
    write_split(folder / "split.json", split)
    write_json(folder / "sites.json", {site.name: list(site.shape) for site in model.sites.values()})
    print(f"{folder}: {len(training)} scans, KL weight {bound.kl_weight}", checked.describe(), sep="\n")
    print("Before inference:", describe_scales(weight_scales(model.sites, prior, posterior)), sep="\n")
    with Logbook(folder) as logbook:
        history = fit(task, schedule, folder, seed, run.resumed, writer=logbook)
    scales = weight_scales(model.sites, prior, posterior)
    print("After inference:", describe_scales(scales), sep="\n")

    # Prediction: the test scans are predicted here, for the first time. Pictures come last, when the scores are safe.
    held_out = split.test if score == "test" else split.validation
    cases = score_cases(task.draw, data, held_out, preprocess, samples, seed, folder / "predictions", device)
    table, shown = tabulate(cases, len(held_out), f"{score} scans")
    found = {score: table.to_dict(), "elbo": history.rows[-1], "weight_scales": scales}
    write_json(folder / "metrics.json", found | machine.cost(history))
    draw_run(folder, history.rows, shown, model.sites, posterior(), prior)
    print(f"{table.headline()} over {len(held_out)} {score} scan(s): {folder}")


if __name__ == "__main__":
    sys.exit(run_script(main, "quick"))
