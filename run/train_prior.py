#!/usr/bin/env python
"""Fit a prior to a bank of kernels: one density for each group of layers.

--prior says which: a deep weight prior (a variational autoencoder), an empirical one (a Gaussian or Student t of full
covariance), a mixture of Gaussians, or a normalising flow.

A fifth of the source networks is held out. On its kernels the prior stands beside an isotropic Gaussian, a full-covariance
Gaussian and a Student t that were fitted to the same kernels: what it knows, in nats per kernel, exact or (deep weight
prior) as an importance bound. One of the other networks says when to stop: single kernels of the networks that are fitted
would not notice when a flow learns what is peculiar to these networks. The autoencoder does better with all networks to learn
from, its learning rate steered by single kernels.

Example:
    python run/train_prior.py --bank runs/kernels/bank.safetensors --name prior
    python run/train_prior.py --bank runs/kernels/bank.safetensors --prior empirical --prior.student_t true --name student_t
"""

import shlex
import sys
from pathlib import Path
from typing import Literal

import torch
from jsonargparse import lazy_instance

from models.fit_deep_weight import FitDeepWeight
from pyro_dwp.cli import begin_run, run_script, write_json
from pyro_dwp.errors import ConfigError, DataError
from pyro_dwp.kernels.bank import KernelBank, split_randomly
from pyro_dwp.kernels.information import information_table, measure
from pyro_dwp.priors.store import save_prior
from pyro_dwp.report import kernels as draw_kernels
from pyro_dwp.report import save_figure
from pyro_dwp.train import Circumstances, PriorFit, Schedule, configure_pyro, use_machine


def main(
    bank: Path,
    prior: PriorFit = lazy_instance(FitDeepWeight),  # noqa: B008 (immutable)
    schedule: Schedule = Schedule(epochs=200, batch_size=256, factor=0.3, patience=3, threshold=1e-2, stop_rate=5e-5),  # noqa: B008
    held_out: float = 0.2,
    steer: Literal["networks", "kernels"] | None = None,
    validation: float = 0.05,
    judged: float = 1.0,
    licence: str = "",
    seed: int = 0,
    name: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "cpu",
    threads: int | None = None,
) -> None:
    """Fit a density to each group of a bank and write them as runs/NAME/prior.safetensors, with prior.yaml to read.

    Args:
        bank: kernels of source networks, written by run/collect_kernels.py.
        prior: family of the prior and how it is fitted.
        schedule: length, batch size (kernels) and learning rate of each group's training (deep_weight, flow).
        held_out: share of the source networks (of the kernels, if there is one network) that only judges the result.
        steer: what steers the fit: whole networks, where three or more are left, or random kernels; None takes what suits the
            family: kernels for deep_weight, networks for the others.
        validation: share of the remaining networks, at least one, or of their kernels that steers the fit.
        judged: share of the held-out kernels that is judged, between 0 and 1; fewer are faster.
        licence: of the source data, to be kept in the prior's header.
        seed: of splits, initialisation, order of the kernels and draws.
        name: of the run's folder under runs/; None numbers it.
        resume: continue the run of this name.
        overwrite: delete the run of this name first.
        device: where to compute, such as cpu or cuda.
        threads: CPU threads; None leaves torch's choice.
    """
    if not 0 < validation < 1 or not 0 < judged <= 1:
        raise ConfigError(
            f"validation and judged are shares between 0 and 1 (judged may be 1), but received {validation=}, {judged=}."
        )
    configure_pyro()
    use_machine(device, threads)
    kernels = KernelBank.load(bank)
    folder = begin_run("train_prior", name, resume, overwrite)
    rest, held = kernels.divide(held_out, seed)
    by_network = (steer or prior.steer) == "networks" and len(rest.networks) > 2
    fits, rows, counts = {}, [], {}
    for number, group in enumerate(kernels.groups, start=1):
        print(f"group {group}, {number} of {len(kernels.groups)}")
        fitted, kept_out = rest.group(group), held.group(group)
        training, steering = (rest.split if by_network else rest.split_kernels)(group, validation, seed)
        _, judging = split_randomly(kept_out, judged, seed) if judged != 1 else (None, kept_out)
        where = Circumstances(folder / "groups" / group, schedule, seed, resume, device)
        try:
            fits[group] = prior.fit(training, steering, where)
        except DataError as error:
            raise DataError(f"{bank}, group {group!r}: {error}") from error
        torch.manual_seed(seed)
        nats = prior.log_density(fits[group].density, judging)
        rows.append(measure(group, len(kernels.networks), fitted, judging, nats))
        counts[group] = {"fitted": len(training), "steering": len(steering), "held_out": len(kept_out)}

    densities = {group: fit.density for group, fit in fits.items()}
    scores = {
        "family": prior.family,
        "exact": prior.exact,
        "nats_per_kernel": [row.to_dict() for row in rows],
        "steps": {group: fit.steps for group, fit in fits.items()},
        "seconds": {group: fit.seconds for group, fit in fits.items()},
        "parameters": {group: density.num_parameters for group, density in densities.items()},
    }
    facts = {
        "licence": licence,
        "command": shlex.join(["run/train_prior.py", *sys.argv[1:]]),
        "kernels": counts,
        "scores": scores,
    }
    path = folder / "prior.safetensors"
    save_prior(path, densities, {**facts, "bank": kernels.metadata})
    write_json(folder / "metrics.json", scores)
    torch.manual_seed(seed)
    samples = {group: density.distribution(group).sample((16,)).cpu() for group, density in densities.items()}
    save_figure(draw_kernels(kernels.kernels, samples), folder / "figures" / "kernels.png")
    print(information_table(rows, learned=prior.label))
    print(f"Prior of {len(densities)} groups ({prior.family}) in {path}, described in {path.with_suffix('.yaml')}")


if __name__ == "__main__":
    sys.exit(run_script(main))
