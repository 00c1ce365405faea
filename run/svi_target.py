#!/usr/bin/env python
"""Fit a segmentation network to a few labelled scans by variational inference under a prior over its kernels.

Without arguments: phantoms of a tumour, the deep weight prior that ships with the package, 5 scans to learn from.

Example:
    python run/svi_target.py
    python run/svi_target.py --config lgg --prior gaussian --guide mean_field --guide.relative_scale 0.05
    python run/svi_target.py --config lgg --guide point --prior gaussian --kl_weight 0 --start random   # no prior at all
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from rich.progress import track
from torch import nn

from guides import Guide
from guides.latent import describe_decoder
from models.segmentation import SegmentationModel
from pyro_dwp.cli import begin_run, run_script, write_json
from pyro_dwp.data import CaseSource, Preprocess, keep_split, prepare, split_cases
from pyro_dwp.errors import ConfigError
from pyro_dwp.infer import AuxiliaryELBO, Estimator, SharedSample, check_guide, describe_scales, weight_scales
from pyro_dwp.likelihoods import Likelihood
from pyro_dwp.metrics import CaseTable
from pyro_dwp.predict import score_cases
from pyro_dwp.priors import PriorFamily
from pyro_dwp.report import draw_case, draw_run, figure_cases
from pyro_dwp.sites import declared
from pyro_dwp.train import Logbook, Schedule, VariationalTask, configure_pyro, draw_network, fit, use_machine
from pyro_dwp.train.resources import machine, peak_memory_mib
from pyro_dwp.transfer import Start, load_network, scale_parameters, start_weights

QUICK = Path(__file__).parent / "configs" / "quick.yaml"


def main(
    data: CaseSource,
    prior: PriorFamily,
    guide: Callable[[dict, dict], Guide],
    likelihood: Likelihood,
    network: Callable[[], nn.Module],
    estimator: Callable[[], Estimator] = SharedSample,
    preprocess: Preprocess = Preprocess(),  # noqa: B008 (immutable)
    schedule: Schedule = Schedule(),  # noqa: B008 (immutable)
    train: int = 5,
    validation: int = 5,
    test: int = 10,
    split_seed: int = 0,
    test_seed: int = 0,
    start: Start = "prior",
    source: Path | None = None,
    initial_scale: float = 1.0,
    kl_weight: float = 1.0,
    warm_up: int = 0,
    draws: int = 1,
    kernels_per_group: int | None = 400,
    psi_rate: float = 1e-4,
    clip_norm: float | None = None,
    samples: int = 10,
    score: Literal["test", "validation"] = "test",
    seed: int = 0,
    name: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "cpu",
    threads: int | None = None,
) -> None:
    """Infer the weights of a segmentation network from a few scans, then score it on held-out ones.

    Args:
        data: labelled cases of the target disease.
        prior: distribution of a convolution kernel.
        guide: variational family of the weights.
        likelihood: how labels are scored given the network's output.
        network: class of the network and its arguments.
        estimator: how the noise of the weights enters the data term, and so how noisy its gradient is.
        preprocess: how a scan becomes the network's input.
        schedule: length, batch size and learning rate (of θ, the guide and the network's point parameters).
        train: number of scans to learn from.
        validation: number of scans that steer the learning rate.
        test: number of scans to score, once, at the end.
        split_seed: of the choice of training and validation scans among those that are no test scans.
        test_seed: of the choice of the test scans.
        start: weights that the guide starts from: "prior" (a draw of it), "source" (a trained network) or "random" (He).
        source: a network saved by run/train_source.py, which also gives the point parameters; needed by start=source.
        initial_scale: factor on He's initialisation of the network, for point parameters and start=random.
        kl_weight: weight β of the KL divergence in the ELBO; 1 is Bayes' rule, less tempers the posterior.
        warm_up: steps over which the KL weight rises linearly from 0.
        draws: latent draws per kernel in the bound; 1 is the paper's, more are tighter and dearer.
        kernels_per_group: random kernels of each group that the bound is estimated from in a step (unbiased); None: all.
        psi_rate: learning rate of ψ, the auxiliary encoders, per step; dimensionless.
        clip_norm: largest L2 norm of the gradient of θ and of ψ; None clips nothing.
        samples: networks drawn from the posterior to predict with.
        score: scans that are scored at the end. Choose between methods by "validation": the test scans then stay unopened.
        seed: of initialisation, order of the scans, noise of the inference and of the prediction.
        name: of the run's folder under runs/; None numbers it.
        resume: continue the run of this name.
        overwrite: delete the run of this name first.
        device: where to compute, such as cpu or cuda.
        threads: CPU threads; None leaves torch's choice.
    """
    if start == "source" and source is None:
        raise ConfigError("start=source needs a trained network: name one with --source runs/NAME/networks/FILE.")
    if min(validation, test, samples) < 1:
        raise ConfigError(
            "A run needs a scan to validate with, one to test on and a posterior sample to predict with, but received "
            f"{validation=}, {test=}, {samples=}. Set each to 1 or more."
        )
    configure_pyro(validation=False)
    use_machine(device, threads)
    torch.manual_seed(seed)
    folder = begin_run("svi_target", name, resume, overwrite)
    names = data.names()
    split = keep_split(
        folder / "split.json", names, lambda: split_cases(names, train, validation, test, split_seed, test_seed)
    )

    # The program: network, prior and likelihood make the model; the guide approximates its posterior.
    target = scale_parameters(network(), initial_scale)
    if source:
        load_network(source, target)
    classes, _ = (declared(target, number) for number in ("classes", "in_channels"))  # run/predict.py needs both
    learning, steering = (prepare(data, part, preprocess, classes) for part in (split.train, split.validation))
    with torch.no_grad():
        target(learning[0].image[None])  # a network that does not fit the scans is refused before there is a run
    model = SegmentationModel(target, prior, likelihood)
    posterior = guide(model.sites, start_weights(start, model.sites, target, prior))
    check_guide(model.sites, prior, posterior)
    decoder = describe_decoder(posterior, prior)
    elbo = AuxiliaryELBO(prior.encoders(), kl_weight=kl_weight, draws=draws, kernels_per_group=kernels_per_group)
    rates = {"theta": schedule.learning_rate, "psi": psi_rate}
    task = VariationalTask(
        model, posterior, elbo, learning, steering, rates, warm_up, clip_norm=clip_norm, estimator=estimator(), device=device
    )  # fmt: skip
    write_json(folder / "sites.json", {site.name: list(site.shape) for site in model.sites.values()})
    print(
        f"{folder}: {train} scans, the likelihood counts {train} / {schedule.batch_size} times, KL weight {kl_weight}"
    )
    if decoder:
        print(decoder)
    print("Before inference:", describe_scales(weight_scales(model.sites, prior, posterior)), sep="\n")

    # Inference.
    with Logbook(folder) as logbook:
        history = fit(task, schedule, folder, seed, resume, writer=logbook)
        scales = weight_scales(model.sites, prior, posterior)
        print("After inference:", describe_scales(scales), sep="\n")

        # The test scans are opened here, for the first time.
        scored = split.test if score == "test" else split.validation
        table, shown, kept = CaseTable(), figure_cases(len(scored), 3), []
        cases = score_cases(
            lambda: draw_network(model.network, posterior), data, scored, preprocess, samples, seed,
            folder / "predictions", device,
        )  # fmt: skip
        for number, case in enumerate(track(cases, f"{score} scans", total=len(scored))):
            table.add(case.scan.name, case.scores)
            if number in shown:
                kept.append(case)
        write_json(
            folder / "metrics.json",
            {
                score: table.to_dict(),
                "elbo": history.rows[-1],
                "weight_scales": scales,
                "seconds": history.seconds,
                "seconds_per_step": history.seconds_per_step,
                "peak_memory_mib": peak_memory_mib(device),
                "machine": machine(device),
            },
        )

        # Pictures last: the scores are kept whatever becomes of these.
        for case in kept:
            draw_case(folder, case)
            logbook.slices(len(history.rows), case.scan.name, case.scan.image, case.truth, case.prediction.mask)
    drawn = {site.name: prior.site_distribution(site).sample() for site in model.sites.values()}
    draw_run(folder, history.rows, posterior(), drawn, model.sites)
    mean, spread = table.mean(), table.std()["dice"]
    deviation = "" if spread is None else f" (sd {spread:.3f})"
    print(f"Dice {mean['dice']:.3f}{deviation}, IoU {mean['iou']:.3f} over {len(scored)} {score} scan(s): {folder}")


if __name__ == "__main__":
    sys.exit(run_script(main, QUICK))
