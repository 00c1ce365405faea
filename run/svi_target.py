#!/usr/bin/env python
"""Fit a segmentation network to a few labelled scans by variational inference under a prior over its kernels.

python run/svi_target.py                    # 5 phantoms of a tumour to learn from, the deep weight prior that ships
python run/svi_target.py --data my_scans    # a folder of scans of your own; the settings are chosen to fit it and the machine
"""

import pyro_dwp.launch  # noqa: F401  # isort: skip  (first, so that Ctrl-C during the other imports ends quietly)

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
from pydantic import NonNegativeFloat, PositiveFloat

from guides import Guide
from models.segmentation import SegmentationModel
from pyro_dwp import Augment, CaseSource, Likelihood, Patches, Preprocess, Prior, SplitPlan
from pyro_dwp.files import write_json
from pyro_dwp.infer import AuxiliaryELBO, Estimator, SharedSample, check_guide, weight_scales
from pyro_dwp.intake import settings_of_data
from pyro_dwp.nn import NetworkFactory
from pyro_dwp.predict import Predictor, Scoring
from pyro_dwp.report import draw_run, report_run
from pyro_dwp.runs import CONFIG, Run, read_cases, run_script
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
    patches: Annotated[Patches, Flat()],
    ranks: Annotated[Ranks, Flat()],
    preprocess: Preprocess,
    schedule: Schedule,
    augment: Augment | None = Augment(),  # noqa: B008 (immutable)
    estimator: Callable[[], Estimator] = SharedSample,
    start: StartKind = "prior",
    source: Path | None = None,
    freeze: tuple[str, ...] = (),
    initial_scale: PositiveFloat = 1.0,
    encoder_learning_rate: NonNegativeFloat = 1e-4,
    clip_norm: PositiveFloat | None = None,
    seed: int = 0,
    verbose: bool = False,
) -> None:
    """Infer the weights of a segmentation network from a few scans, then score it on held-out ones.

    Args:
        data: labelled cases of the target disease; an existing folder or CSV file in place of a class settles the rest, too.
        prior: distribution of a convolution kernel.
        guide: variational family of the weights.
        likelihood: how labels are scored given the network's output.
        network: class of the network.
        preprocess: how a scan becomes the network's input.
        schedule: length, batch size and learning rate (of the guide and of the network's point parameters).
        augment: random variations of the training scans; null learns from the scans as they are.
        estimator: how the noise of the weights enters the data term, and so how noisy its gradient is.
        start: weights that the guide starts from: a draw of the prior, a trained network (source), or He's (random).
        source: network saved by run/train_source.py, which also gives the point parameters.
        freeze: patterns of the names of parameters that keep the source's values, such as "down[2-6].*".
        initial_scale: factor on He's initialisation of the network, for point parameters and --start random.
        encoder_learning_rate: learning rate of the auxiliary encoders r(z|w), per step.
        clip_norm: largest L2 norm of the gradient, for the guide and the encoders separately; null does not clip.
        seed: seed of initialisation, order of the scans, noise of the inference and of the prediction.
        verbose: show the parts of the ELBO, such as data term and KL divergence, beside the loss.
    """
    configure_pyro(validation=False)
    device = machine.use(ranks)
    torch.manual_seed(seed)

    # The data: every scan of the run is read and checked before anything is trained.
    make_network = lambda: scale_parameters(network(), initial_scale)  # noqa: E731
    target = make_network()
    take_over(target, source, start, freeze)
    cases = read_cases(run, data, plan, preprocess, target, patches)
    cases.split.held_out(scoring.score)  # refuses to train where there is nothing to score

    # The program: network, prior and likelihood make the model; the guide approximates its posterior.
    model = SegmentationModel(target, prior, likelihood, computing=machine.computing)
    posterior = guide(model.sites)
    posterior.start(start_function(start, model.sites, target, prior, make_network), prior)
    check_guide(model.sites, prior, posterior)
    bound = elbo(prior.encoders())
    rates = {"posterior": schedule.learning_rate, "encoders": encoder_learning_rate}
    steps = rates, clip_norm, estimator(), augment, patches, device, ranks
    task = VariationalTask(model, posterior, bound, cases.training, cases.validation, *steps)
    after = scoring.postprocess
    predictor = Predictor(task.draw, preprocess, scoring.samples, seed, patches.patch, device=device, postprocess=after)
    folder = cases.begin(run, model.sites, ranks)
    print(f"{folder}: {cases.split.describe()}", cases.notes, sep="\n")
    before, logbook = weight_scales(model.sites, prior, posterior), Logbook(folder, folder / CONFIG)
    history = fit(task, schedule, folder, seed, run.resumed, logbook, ranks=ranks, verbose=verbose)
    if not ranks.leave():
        return  # rank 0 predicts alone
    scales = {"before": before, "after": weight_scales(model.sites, prior, posterior)}

    # Prediction: the test scans are predicted here, for the first time. Pictures come last: the scores are safe.
    result = scoring.evaluate(predictor, data, cases.split, folder)
    found = result.to_dict() | {"elbo": history.rows[-1], "weight_scales": scales}
    write_json(folder / "metrics.json", found | history.cost() | machine.cost())
    logbook.scores(len(history.rows), scoring.score, result.table.mean())
    draw_run(folder, history.rows, result.shown, model.sites, posterior(), prior)
    print(result.describe(), report_run(folder), f"{result.headline()}. Results: {folder}", sep="\n")


if __name__ == "__main__":
    raise SystemExit(run_script(main, "quick", propose=settings_of_data))
