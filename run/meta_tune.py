#!/usr/bin/env python
"""Tune a source network to a few labelled scans: naive fine-tuning, or passive or active meta-tuning (Han et al. 2018).

python run/meta_tune.py                               # to 5 phantoms of a tumour, after run/train_source.py without arguments
python run/meta_tune.py --order passive --source runs/my_source/networks/network-00-cycle-0.safetensors
python run/meta_tune.py --network fcn --tasks_per_scan 4 --source runs/slices/networks/network-00-cycle-0.safetensors
"""

import pyro_dwp.launch  # noqa: F401  # isort: skip  (first, so that Ctrl-C during the other imports ends quietly)

import sys
from pathlib import Path
from typing import Annotated

import torch

from pyro_dwp import Augment, CaseSource, Preprocess, SplitPlan
from pyro_dwp.files import write_json
from pyro_dwp.nn import NetworkFactory, load_network
from pyro_dwp.predict import Predictor, Scoring
from pyro_dwp.report import draw_case, learning_curves, report_run, save_figure
from pyro_dwp.runs import CONFIG, Run, read_cases, run_script
from pyro_dwp.settings import Flat
from pyro_dwp.train import Logbook, Machine, Schedule, configure_pyro, fit
from pyro_dwp.transfer import MetaTask, MetaTuning


def main(
    data: CaseSource,
    network: NetworkFactory,
    source: Path,
    tuning: Annotated[MetaTuning, Flat()],
    plan: Annotated[SplitPlan, Flat()],
    run: Annotated[Run, Flat()],
    machine: Annotated[Machine, Flat()],
    preprocess: Preprocess,
    schedule: Schedule,
    scoring: Annotated[Scoring, Flat()] = Scoring(samples=1),  # noqa: B008 (immutable)
    augment: Augment | None = Augment(),  # noqa: B008 (immutable)
    seed: int = 0,
) -> None:
    """Tune a source network to a few scans, then score it on held-out ones.

    Args:
        data: labelled cases of the target disease.
        network: class of the source network.
        source: network saved by run/train_source.py.
        tuning: order of the tasks, and the inner loop.
        preprocess: how a scan becomes the network's input.
        schedule: length, tasks of a meta-batch (batch_size) and learning rate of the outer loop.
        augment: random variations of the training scans; null learns from the scans as they are.
        seed: seed of the order of the tasks, and of what is drawn from them.
    """
    configure_pyro(validation=False)
    device = machine.use()
    torch.manual_seed(seed)

    # The data: every scan of the run is read and checked before anything is trained.
    pretrained = network()
    load_network(source, pretrained)
    cases = read_cases(run, data, plan, preprocess, pretrained)
    cases.split.held_out(scoring.score)  # refuses to train where there is nothing to score

    rate, size = schedule.learning_rate, schedule.batch_size
    learned_from = cases.training, cases.validation
    task = MetaTask(pretrained, *learned_from, tuning, rate, size, augment, machine.computing, device)

    folder = cases.begin(run, sites={})  # no weight is random
    print(f"{folder}: {len(cases.training)} scans, {task.size} tasks, {tuning.order}", cases.notes, sep="\n")
    print("Dice before:", ", ".join(f"{name} {dice:.3f}" for name, dice in task.source_dice.items()))
    logbook = Logbook(folder, folder / CONFIG)
    history = fit(task, schedule, folder, seed, run.resumed, logbook)

    # Prediction: the test scans are predicted here, for the first time. Pictures come last: the scores are safe.
    after = scoring.postprocess
    predictor = Predictor(task.draw, preprocess, scoring.samples, seed, device=device, postprocess=after)
    result = scoring.evaluate(predictor, data, cases.split, folder)
    found = result.to_dict() | {"source_dice": task.source_dice}
    write_json(folder / "metrics.json", found | history.cost() | machine.cost())
    logbook.scores(len(history.rows), scoring.score, result.table.mean())
    for case in result.shown:
        draw_case(folder, case)
    save_figure(learning_curves(history.rows), folder / "figures" / "learning_curves.png")
    print(result.describe(), report_run(folder), f"{result.headline()}. Results: {folder}", sep="\n")


if __name__ == "__main__":
    sys.exit(run_script(main, "quick_meta"))
