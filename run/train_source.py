#!/usr/bin/env python
"""Train source networks, whose convolution kernels will become a prior.

Every network starts from its own initialisation and learns from its own bootstrap sample of the training cases. When
the rate has fallen to the schedule's stop (or the epochs are over), the network is kept as a snapshot; then the rate
rises again and the next cycle goes on from there (cyclical learning rate).

Example:
    python run/train_source.py --config run/configs/hippocampus.yaml
"""

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from pyro_dwp.cli import begin_run, run_script, write_json
from pyro_dwp.data import CaseSource, Phantoms, Preprocess, bootstrap, keep_split, prepare, split_cases
from pyro_dwp.errors import ConfigError
from pyro_dwp.nn import UNet
from pyro_dwp.sites import declared
from pyro_dwp.train import PointTask, Schedule, fit, use_machine
from pyro_dwp.transfer import load_network, save_network, scale_parameters

CONFIG = Path(__file__).parent / "configs" / "quick_source.yaml"


def main(
    data: CaseSource = Phantoms(disease="plaques"),  # noqa: B008
    preprocess: Preprocess = Preprocess(),  # noqa: B008
    network: Callable[[], nn.Module] = UNet,
    schedule: Schedule = Schedule(),  # noqa: B008
    train: int = 20,
    validation: int = 5,
    networks: int = 10,
    cycles: int = 2,
    initial_scale: float = 0.05,
    weight_decay: float = 1.0,
    seed: int = 0,
    split_seed: int = 0,
    name: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "cpu",
    threads: int | None = None,
) -> None:
    """Train source networks and keep every converged snapshot in runs/NAME/networks/.

    Args:
        data: labelled cases of the source disease.
        preprocess: how a scan becomes the network's input.
        network: class of the networks and its arguments.
        schedule: length, batch size and learning rate of one cycle.
        train: number of training cases; each network learns from a bootstrap sample of them.
        validation: number of cases that steer the learning rate.
        networks: number of networks, each from its own initialisation.
        cycles: snapshots per network; after each one the learning rate rises to its start again.
        initial_scale: factor on He's initialisation. From 1 the kernels of a trained network are still their initial
            noise; under instance normalisation a small start costs nothing and lets the learned structure show.
        weight_decay: decoupled weight decay (AdamW), times the learning rate, per step; removes what no gradient renews.
        seed: of the first network's initialisation, bootstrap sample and order of cases; network i has seed + i.
        split_seed: of the split into training and validation cases.
        name: of the run's folder under runs/; None numbers it.
        resume: continue the run of this name.
        overwrite: delete the run of this name first.
        device: where to compute, such as cpu or cuda.
        threads: CPU threads; None leaves torch's choice.
    """
    if min(validation, networks, cycles) < 1:
        raise ConfigError(
            "A source needs a case to validate with, a network and a cycle, but received "
            f"{validation=}, {networks=}, {cycles=}. Set each to 1 or more."
        )
    use_machine(device, threads)
    folder = begin_run("train_source", name, resume, overwrite)
    names = data.names()
    split = keep_split(folder / "split.json", names, lambda: split_cases(names, train, validation, 0, split_seed))
    classes = declared(network(), "classes")
    cases = {case.name: case for case in prepare(data, split.train + split.validation, preprocess, classes)}
    with torch.no_grad():
        network()(cases[split.train[0]].image[None])  # one that does not fit the scans is refused before there is a run
    results = []
    for index in range(networks):
        torch.manual_seed(seed + index)
        trained = scale_parameters(network(), initial_scale)
        training = [cases[case] for case in bootstrap(split.train, seed + index)]
        for cycle in range(cycles):
            stem = f"network-{index:02d}-cycle-{cycle}"
            path = folder / "networks" / f"{stem}.safetensors"
            if path.exists():
                results.append(load_network(path, trained))
                continue
            print(f"network {index + 1} of {networks}, cycle {cycle + 1} of {cycles}")
            task = PointTask(
                trained,
                training,
                [cases[case] for case in split.validation],
                schedule.learning_rate,
                weight_decay,
                device,
            )
            history = fit(task, schedule, folder / "training" / stem, seed + index, resume)
            facts = {
                "network": index,
                "cycle": cycle,
                "seed": seed + index,
                "epochs": len(history.rows),
                "stopped": history.stopped,
                "seconds": history.seconds,
                **task.validate(),
            }
            save_network(path, trained, facts)
            results.append(facts)
    write_json(folder / "metrics.json", {"snapshots": results})
    scores = [facts["dice"] for facts in results]
    print(f"{len(results)} snapshots, validation Dice {min(scores):.3f} to {max(scores):.3f}, in {folder}")


if __name__ == "__main__":
    sys.exit(run_script(main, CONFIG))
