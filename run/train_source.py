#!/usr/bin/env python
"""Train source networks, whose convolution kernels will become a prior.

Every network starts from its own initialisation and learns from its own bootstrap sample of the training cases. When the rate has
fallen to the schedule's stop (or the epochs are over), the network is kept as a snapshot; then the rate rises again and the next
cycle continues from there (cyclical learning rate).

    python run/train_source.py --config hippocampus
"""

import pyro_dwp.launch  # noqa: F401  # isort: skip  (first, so that Ctrl-C during the other imports ends quietly)

import sys
from typing import Annotated

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from pyro_dwp.data import Augment, CaseSource, Patches, Preprocess, SplitPlan, bootstrap
from pyro_dwp.files import write_json
from pyro_dwp.nn import NetworkFactory, load_network, save_network
from pyro_dwp.runs import Run, read_cases, run_script
from pyro_dwp.settings import Flat
from pyro_dwp.train import Machine, PointTask, Schedule, fit
from pyro_dwp.transfer import scale_parameters


def main(
    data: CaseSource,
    preprocess: Preprocess,
    network: NetworkFactory,
    schedule: Schedule,
    run: Annotated[Run, Flat()],
    machine: Annotated[Machine, Flat()],
    patches: Annotated[Patches, Flat()],
    plan: Annotated[SplitPlan, Flat()] = SplitPlan(train=20, test=0),  # noqa: B008 (immutable)
    networks: PositiveInt = 10,
    cycles: PositiveInt = 2,
    augment: Augment | None = None,
    initial_scale: PositiveFloat = 0.05,
    weight_decay: NonNegativeFloat = 1.0,
    seed: int = 0,
) -> None:
    """Train source networks and keep every converged snapshot in runs/NAME/networks/.

    Args:
        data: labelled cases of the source disease.
        preprocess: how a scan becomes the network's input.
        network: class of the networks.
        schedule: length, batch size and learning rate of one cycle.
        networks: number of networks, each from its own initialisation.
        cycles: snapshots per network; after each one the learning rate rises to its start again.
        augment: random variations of the training cases, such as augment: {}; null learns from the cases as they are.
        initial_scale: factor on He's initialisation. From 1 the kernels of a trained network are still their initial noise; under
            instance normalisation a small start costs nothing and lets the learned structure show.
        weight_decay: decoupled weight decay (AdamW), times the learning rate, per step; removes what no gradient renews.
        seed: seed of the first network's initialisation, bootstrap sample and order of cases; network i has seed + i.
    """
    device = machine.use()
    cases = read_cases(run, data, plan, preprocess, network(), patches)
    folder = cases.begin(run)
    print(cases.notes)
    snapshots = []
    for index in range(networks):
        torch.manual_seed(seed + index)
        trained = scale_parameters(network(), initial_scale)
        training = bootstrap(cases.training, seed + index)
        for cycle in range(cycles):
            stem = f"network-{index:02d}-cycle-{cycle}"
            path = folder / "networks" / f"{stem}.safetensors"
            if path.exists():
                snapshots.append(load_network(path, trained))
                continue
            print(f"network {index + 1} of {networks}, cycle {cycle + 1} of {cycles}")
            steps = schedule.learning_rate, weight_decay, augment, machine.computing, patches, device
            task = PointTask(trained, training, cases.validation, *steps)
            history = fit(task, schedule, folder / "training" / stem, seed + index, run.resumed)
            facts = {"network": index, "cycle": cycle, "seed": seed + index, "epochs": len(history.rows)}
            facts |= {"stopped": history.stopped, "seconds": history.seconds, **task.validate()}
            save_network(path, trained, facts)
            snapshots.append(facts)
    seconds = sum(facts["seconds"] for facts in snapshots)
    write_json(folder / "metrics.json", {"snapshots": snapshots, "seconds": seconds, **machine.cost()})
    scores = [facts["dice"] for facts in snapshots if "dice" in facts]
    told = f", validation Dice {min(scores):.3f} to {max(scores):.3f}" if scores else ""
    print(f"{len(snapshots)} snapshots{told}, in {folder}")


if __name__ == "__main__":
    sys.exit(run_script(main, "quick_source"))
