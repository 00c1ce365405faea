#!/usr/bin/env python
"""Fit a prior to a bank of kernels: one density for each group of layers.

--family says which: a deep weight prior (a variational autoencoder), an empirical one (a Gaussian or Student t of full
covariance), a mixture of Gaussians, or a normalising flow.

A fifth of the source networks is held out. On their kernels the prior is compared with an isotropic Gaussian, a full-covariance
Gaussian and a Student t that were fitted to the same kernels: what it knows, in nats per kernel, exact or (deep weight prior) as
an importance bound. One of the other networks validates, which decides when to stop; single kernels of the fitted networks would
not show when a flow learns the peculiarities of these networks. The autoencoder does better with all networks to learn from,
validated on single kernels.

    python run/train_prior.py --bank runs/kernels/bank.safetensors --name prior
    python run/train_prior.py --bank runs/kernels/bank.safetensors --family empirical --family.student_t --name student_t
"""

import pyro_dwp.launch  # noqa: F401  # isort: skip  (first, so that Ctrl-C during the other imports ends quietly)

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import torch
from annotated_types import Gt, Le
from pydantic import PositiveInt

from models.kernel_vae import KernelVAE
from pyro_dwp.checks import Share
from pyro_dwp.errors import DataError
from pyro_dwp.files import write_json
from pyro_dwp.kernels.bank import KernelBank, split_randomly
from pyro_dwp.kernels.information import information_table, measure
from pyro_dwp.priors import DeepWeightFit, Fit
from pyro_dwp.priors.store import save_prior
from pyro_dwp.report import kernels as draw_kernels
from pyro_dwp.report import save_figure
from pyro_dwp.runs import Run, run_script
from pyro_dwp.settings import Flat
from pyro_dwp.train import GradientTrainer, Machine, Schedule, configure_pyro, held_out_log_density


def main(
    bank: Path,
    run: Annotated[Run, Flat()],
    machine: Annotated[Machine, Flat()],
    family: Callable[[], Fit] = DeepWeightFit,
    schedule: Schedule = Schedule(epochs=200, batch_size=256, factor=0.3, patience=3, threshold=1e-2, stop_rate=5e-5),  # noqa: B008
    held_out: Share = 0.2,
    validate_on: Literal["networks", "kernels"] | None = None,
    validation: Share = 0.05,
    test_share: Annotated[float, Gt(0), Le(1)] = 1.0,
    bound_draws: PositiveInt = 1000,
    licence: str = "",
    seed: int = 0,
) -> None:
    """Fit a density to each group of a bank and write them as runs/NAME/prior.safetensors, with prior.yaml to read.

    Args:
        bank: kernels of source networks, written by run/collect_kernels.py.
        family: family of the prior, and how it is fitted.
        schedule: length, batch size (kernels) and learning rate of each group's training (deep_weight, flow).
        held_out: share of the source networks (of the kernels, if there is one network) that the result is tested on.
        validate_on: whole networks, where three or more are left, or random kernels; null takes what suits the family.
        validation: share of the remaining networks (at least one), or of their kernels, that is used for validation.
        test_share: share of the held-out kernels that the result is tested on; fewer are faster.
        bound_draws: draws of z per kernel in the bound on a held-out density that has no closed form.
        licence: licence of the source data, to be kept in the prior's header.
        seed: seed of splits, initialisation, order of the kernels and draws.
    """
    configure_pyro(validation=False)
    device = machine.use()
    kernels = KernelBank.load(bank)
    rest, held = kernels.divide(held_out, seed)
    fitter = family()
    by_network = (validate_on or fitter.validates_on) == "networks" and len(rest.networks) > 2
    folder = run.begin()
    fits, rows, counts = {}, [], {}
    for number, group in enumerate(kernels.groups, start=1):
        print(f"group {group}, {number} of {len(kernels.groups)}")
        fitted, kept_out = rest.group(group), held.group(group)
        training, validating = (rest.split if by_network else rest.split_kernels)(group, validation, seed)
        tested = kept_out if test_share == 1 else split_randomly(kept_out, test_share, seed)[1]
        trainer = GradientTrainer(KernelVAE, folder / "groups" / str(number), schedule, seed, run.resumed, device)
        try:
            fits[group] = fitter.fit(training, validating, trainer)
        except DataError as error:
            raise DataError(f"{bank}, group {group!r}: {error}") from error
        nats = held_out_log_density(fits[group].density, tested, bound_draws, seed)
        rows.append(measure(group, len(kernels.networks), fitted, tested, nats))
        counts[group] = {"fitted": len(training), "validation": len(validating), "held_out": len(kept_out)}

    densities = {group: fit.density for group, fit in fits.items()}
    name, exact = next((density.family, density.exact) for density in densities.values())
    scores = {
        "family": name,
        "exact": exact,
        "nats_per_kernel": [row.to_dict() for row in rows],
        "steps": {group: fit.steps for group, fit in fits.items()},
        "seconds": {group: fit.seconds for group, fit in fits.items()},
        "parameters": {group: density.num_parameters for group, density in densities.items()},
    }
    path = folder / "prior.safetensors"
    save_prior(path, densities, {"licence": licence, "kernels": counts, "scores": scores, "bank": kernels.metadata})
    write_json(folder / "metrics.json", scores)
    torch.manual_seed(seed)
    samples = {group: density.distribution(group).sample((16,)).cpu() for group, density in densities.items()}
    save_figure(draw_kernels(kernels.kernels, samples), folder / "figures" / "kernels.png")
    print(information_table(rows, learned=f"{name} ({'exact' if exact else 'bound'})"))
    print(f"Prior of {len(densities)} groups ({name}) in {path}, described in {path.with_suffix('.yaml')}")


if __name__ == "__main__":
    sys.exit(run_script(main))
