#!/usr/bin/env python
"""Fit a deep weight prior to a bank of kernels: one variational autoencoder for each group of layers.

A fifth of the source networks is held out. On its kernels the autoencoder's importance bound stands beside an
isotropic Gaussian, a full-covariance Gaussian and a Student t that were fitted to the same kernels: what the deep
prior knows, in nats per kernel. The learning rate is steered by kernels of the networks that were not held out.

Example:
    python run/train_prior.py --bank runs/kernels/bank.safetensors --name prior
"""

import sys
from pathlib import Path

import torch

from models.kernel_vae import KernelVAE, importance_bounds, sample_kernels
from pyro_dwp.cli import begin_run, run_script, write_json
from pyro_dwp.errors import ConfigError
from pyro_dwp.kernels.bank import KernelBank, root_mean_square, split_randomly
from pyro_dwp.kernels.information import information_table, measure
from pyro_dwp.nn.kernel_coders import build_coders
from pyro_dwp.priors.store import save_prior
from pyro_dwp.report import kernels as draw_kernels
from pyro_dwp.report import save_figure
from pyro_dwp.train import Schedule, configure_pyro, fit, use_machine
from pyro_dwp.train.kernel_task import KernelTask


def main(
    bank: Path,
    variant: str = "dense",
    latent: int = 6,
    hidden: int = 128,
    standardise: bool = True,
    schedule: Schedule = Schedule(epochs=200, batch_size=256, factor=0.3, patience=3, threshold=1e-2, stop_rate=5e-5),  # noqa: B008
    held_out: float = 0.2,
    validation: float = 0.05,
    samples: int = 1000,
    judged: float = 1.0,
    licence: str = "",
    seed: int = 0,
    name: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "cpu",
    threads: int | None = None,
) -> None:
    """Fit a kernel autoencoder to each group of a bank and write them as runs/NAME/prior.safetensors.

    Args:
        bank: kernels of source networks, written by run/collect_kernels.py.
        variant: "dense" (matrix products, unbounded scale) or "paper" (appendix B of the paper, tanh heads).
        latent: dimension of the latent z.
        hidden: width of the dense variant's two hidden layers; the paper's has none to choose.
        standardise: divide each group's kernels by the root mean square of their entries. The paper does not.
        schedule: length, batch size (kernels) and learning rate of each group's training.
        held_out: share of the source networks (of the kernels, if there is one network) that only judges the result.
        validation: share of the remaining kernels that steers the learning rate.
        samples: draws of z per kernel in the importance bound.
        judged: share of the held-out kernels that is judged, between 0 and 1; fewer are faster.
        licence: of the source data, to be kept in the prior's header.
        seed: of splits, initialisation, order of the kernels and draws of z.
        name: of the run's folder under runs/; None numbers it.
        resume: continue the run of this name.
        overwrite: delete the run of this name first.
        device: where to compute, such as cpu or cuda.
        threads: CPU threads; None leaves torch's choice.
    """
    if samples < 1:
        raise ConfigError(f"The importance bound needs one draw of z or more, but samples is {samples}. Change it.")
    configure_pyro()
    use_machine(device, threads)
    kernels = KernelBank.load(bank)
    folder = begin_run("train_prior", name, resume, overwrite)
    coders, rows, epochs = {}, [], {}
    for number, group in enumerate(kernels.groups, start=1):
        print(f"group {group}, {number} of {len(kernels.groups)}")
        fitted, kept_out = kernels.split(group, held_out, seed)
        training, steering = split_randomly(fitted, validation, seed)
        _, judging = split_randomly(kept_out, judged, seed) if judged != 1 else (None, kept_out)
        torch.manual_seed(seed)
        scale = root_mean_square(fitted) if standardise else 1.0
        shape = fitted.shape[1:]
        coders[group] = build_coders(variant, shape, latent, scale, hidden).to(device)
        vae = KernelVAE(coders[group])
        task = KernelTask(vae, training.to(device), steering.to(device), schedule.learning_rate)
        epochs[group] = len(fit(task, schedule, folder / "groups" / group, seed, resume).rows)
        torch.manual_seed(seed)
        bounds = importance_bounds(vae, judging.to(device), samples)
        rows.append(measure(group, len(kernels.networks), fitted, judging, bounds))
    scores = {"nats_per_kernel": [row.to_dict() for row in rows], "epochs": epochs, "samples": samples}
    facts = {"licence": licence, "bank": kernels.metadata, "scores": scores, "command": " ".join(sys.argv)}
    path = folder / "prior.safetensors"
    save_prior(path, coders, variant=variant, kernel_shape=shape, latent=latent, hidden=hidden, metadata=facts)
    write_json(folder / "metrics.json", scores)
    torch.manual_seed(seed)
    samples_of = {group: sample_kernels(coders[group], 16).reshape(-1, *shape) for group in coders}
    save_figure(draw_kernels(kernels.kernels, samples_of), folder / "figures" / "kernels.png")
    print(information_table(rows))
    print(f"Prior of {len(coders)} groups in {path}")


if __name__ == "__main__":
    sys.exit(run_script(main))
