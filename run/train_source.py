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

from pyro_dwp.data import CaseSource, Preprocess, bootstrap, check_cases, read_split, split_cases, write_split
from pyro_dwp.files import write_json
from pyro_dwp.nn import NetworkFactory, check_network
from pyro_dwp.runs import Run, run_script
from pyro_dwp.settings import Flat
from pyro_dwp.sites import classes_and_channels
from pyro_dwp.train import Machine, PointTask, Schedule, fit
from pyro_dwp.transfer import load_network, save_network, scale_parameters


def main(
    data: CaseSource,
    preprocess: Preprocess,
    network: NetworkFactory,
    schedule: Schedule,
    run: Annotated[Run, Flat()],
    machine: Annotated[Machine, Flat()],
    train: PositiveInt = 20,
    validation: PositiveInt = 5,
    networks: PositiveInt = 10,
    cycles: PositiveInt = 2,
    initial_scale: PositiveFloat = 0.05,
    weight_decay: NonNegativeFloat = 1.0,
    seed: int = 0,
    split_seed: int = 0,
) -> None:
    """Train source networks and keep every converged snapshot in runs/NAME/networks/.

    Args:
        data: labelled cases of the source disease.
        preprocess: how a scan becomes the network's input.
        network: class of the networks.
        schedule: length, batch size and learning rate of one cycle.
        train: number of training cases; each network learns from a bootstrap sample of them.
        validation: number of cases whose loss controls the learning rate.
        networks: number of networks, each from its own initialisation.
        cycles: snapshots per network; after each one the learning rate rises to its start again.
        initial_scale: factor on He's initialisation. From 1 the kernels of a trained network are still their initial noise; under
            instance normalisation a small start costs nothing and lets the learned structure show.
        weight_decay: decoupled weight decay (AdamW), times the learning rate, per step; removes what no gradient renews.
        seed: seed of the first network's initialisation, bootstrap sample and order of cases; network i has seed + i.
        split_seed: seed of the split into training and validation cases.
    """
    device = machine.use()
    names = data.names()
    split = (
        read_split(run.folder / "split.json", names)
        if run.resumed
        else split_cases(names, train, validation, 0, split_seed)
    )
    checked = check_cases(data, split.names, preprocess, *classes_and_channels(network()), keep=split.names)
    cases = checked.prepared
    check_network(network(), cases[split.train[0]].image)
    folder = run.begin()
    write_split(folder / "split.json", split)
    print(checked.describe())
    snapshots = []
    for index in range(networks):
        torch.manual_seed(seed + index)
        trained = scale_parameters(network(), initial_scale)
        parts = bootstrap(split.train, seed + index), split.validation
        training, validating = ([cases[name] for name in part] for part in parts)
        for cycle in range(cycles):
            stem = f"network-{index:02d}-cycle-{cycle}"
            path = folder / "networks" / f"{stem}.safetensors"
            if path.exists():
                snapshots.append(load_network(path, trained))
                continue
            print(f"network {index + 1} of {networks}, cycle {cycle + 1} of {cycles}")
            task = PointTask(trained, training, validating, schedule.learning_rate, weight_decay, device)
            history = fit(task, schedule, folder / "training" / stem, seed + index, run.resumed)
            facts = {"network": index, "cycle": cycle, "seed": seed + index, "epochs": len(history.rows)}
            facts |= {"stopped": history.stopped, "seconds": history.seconds, **task.validate()}
            save_network(path, trained, facts)
            snapshots.append(facts)
    write_json(folder / "metrics.json", {"snapshots": snapshots})
    scores = [facts["dice"] for facts in snapshots]
    print(f"{len(snapshots)} snapshots, validation Dice {min(scores):.3f} to {max(scores):.3f}, in {folder}")


if __name__ == "__main__":
    sys.exit(run_script(main, "quick_source"))
