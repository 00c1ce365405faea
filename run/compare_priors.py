#!/usr/bin/env python
"""Compare priors on the kernels of source networks: held-out nats per kernel, parameters, time to fit, time of a step.

The learned priors are fitted by train_prior.py, each in a process and a folder of its own; a fit that is finished is kept.
The others get the scale of each group's kernels and keep their other settings. "bound" marks lower bounds.

Example:
    python run/compare_priors.py --bank runs/kernels/bank.safetensors --name comparison
"""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from guides import MeanField
from models.segmentation import SegmentationModel
from pyro_dwp.cli import begin_run, instantiate, run_script, write_json
from pyro_dwp.cli.ahead import check_arguments
from pyro_dwp.errors import ConfigError, TrainingError
from pyro_dwp.infer import AuxiliaryELBO
from pyro_dwp.kernels.bank import KernelBank
from pyro_dwp.kernels.information import Estimate
from pyro_dwp.likelihoods import DiceCrossEntropy
from pyro_dwp.nn import UNet
from pyro_dwp.priors import Pretrained, PriorFamily
from pyro_dwp.report import compare_kernels, save_figure
from pyro_dwp.report.comparison import (
    PriorRow,
    comparison_table,
    draw_kernels,
    fixed_prior_gain,
    group_scales,
    pretrained_gain,
)
from pyro_dwp.train import configure_pyro, use_machine
from pyro_dwp.train.timing import seconds_per_step
from pyro_dwp.transfer import save_network, start_weights

HERE = Path(__file__).parent
CONFIG = HERE / "configs" / "priors.yaml"
FIT = HERE / "train_prior.py"


def build_fixed(title: str, settings: dict[str, Any], scale: float) -> PriorFamily:
    """Return a prior that is not fitted, its weights of this standard deviation."""
    init = {**settings.get("init_args", {}), "scale": scale}
    try:
        prior: PriorFamily = instantiate(PriorFamily, {**settings, "init_args": init})
    except ConfigError as error:
        raise ConfigError(
            f"fixed.{title}: {error}\nThese priors take the argument scale; learned ones stand under `learned`."
        ) from error
    return prior


def fit(folder: Path, arguments: list[str]) -> dict[str, Any]:
    """Fit a learned prior by train_prior.py, unless that is done, and return what it measured."""
    if not (folder / "metrics.json").exists():
        again = ["--resume"] if (folder / "config.yaml").exists() else []
        command = [sys.executable, str(FIT), *arguments, *again]
        if subprocess.run(command).returncode:
            raise TrainingError(
                f"{shlex.join(command)} failed; its message is above. Run the comparison again with --resume."
            )
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return metrics


def main(
    bank: Path,
    learned: dict[str, str],
    fixed: dict[str, dict[str, Any]],
    held_out: float = 0.2,
    seed: int = 0,
    grid: tuple[int, ...] = (64, 64, 24),
    batch: int = 2,
    steps: int = 5,
    kernels_per_group: int | None = 400,
    name: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "cpu",
    threads: int | None = None,
) -> None:
    """Fit every prior to a bank of kernels and print one table; a figure shows samples beside real kernels.

    Args:
        bank: kernels of source networks, written by run/collect_kernels.py.
        learned: name of a prior → flags of run/train_prior.py that fit it.
        fixed: name of a prior → its class and arguments, without `scale`, which is each group's root mean square.
        held_out: share of the source networks that only judges.
        seed: of split, fits and samples.
        grid: of the images that a step is timed on, in voxels.
        batch: images in a timed step.
        steps: timed steps; the median counts. 0 times none.
        kernels_per_group: kernels that the bound of an implicit prior is taken from in a timed step; None: all.
        name: of the run's folder under runs/; None numbers it.
        resume: continue the comparison of this name.
        overwrite: delete the comparison of this name first.
        device: where to compute, such as cpu or cuda.
        threads: CPU threads; None leaves torch's choice.
    """
    configure_pyro(validation=False)
    use_machine(device, threads)
    common = {"--bank": str(bank), "--held_out": str(held_out), "--seed": str(seed), "--device": device}
    common |= {"--threads": str(threads)} if threads else {}
    for title, settings in fixed.items():  # a misspelt setting is refused before the first fit
        build_fixed(title, settings, 1.0)
    for title, flags in learned.items():
        check_arguments(FIT, shlex.split(flags), {**common, "--name": title}, f"learned.{title}")
    kernels = KernelBank.load(bank)
    folder = begin_run("compare_priors", name, resume, overwrite)
    rows, samples = [], {}

    def time_step(prior: PriorFamily) -> float | None:
        """Time a step of the default U-Net under a prior, with the mean-field guide."""
        network = UNet(ndim=len(grid))
        model = SegmentationModel(network, prior, DiceCrossEntropy())
        guide = MeanField(model.sites, start_weights("random", model.sites, network, prior))
        elbo = AuxiliaryELBO(prior.encoders(), kernels_per_group=kernels_per_group)
        for module in (model, guide, elbo.encoders):
            module.to(device)
        image, label = torch.randn(batch, 1, *grid, device=device), torch.randint(2, (batch, *grid), device=device)
        return seconds_per_step(model, guide, elbo, image, label, steps) if steps else None

    for number, (title, settings) in enumerate(fixed.items(), start=1):
        print(f"{title}, {number} of {len(fixed)} without a fit")
        gains, samples[title] = {}, {}
        for group, scale in group_scales(kernels, held_out, seed).items():
            prior = build_fixed(title, settings, scale)
            gains[group] = fixed_prior_gain(prior, group, *kernels.split(group, held_out, seed))
            samples[title][group] = draw_kernels(prior.float(), group, kernels.group(group).shape[1:])
        rows.append(PriorRow(title, gains, True, 0, None, time_step(prior)))

    gains = {group: pretrained_gain(kernels, group, held_out, seed) for group in kernels.groups}
    places = sum(map(torch.numel, kernels.kernels.values())) // int(kernels.metadata["snapshots"])
    with TemporaryDirectory() as temporary:  # the time of a step is the same around any network
        path = Path(temporary) / "network.safetensors"
        save_network(path, UNet(ndim=len(grid)), {})
        around_one = time_step(Pretrained(str(path)))
    rows.append(PriorRow("pretrained: around one network", gains, True, places, None, around_one))

    for number, (title, flags) in enumerate(learned.items(), start=1):
        print(f"{title}, {number} of {len(learned)} to fit")
        part = folder / title
        given = [text for pair in {**common, "--name": str(part.relative_to("runs"))}.items() for text in pair]
        found = fit(part, [*given, *shlex.split(flags)])
        init = {"path": str(part / "prior.safetensors")}
        prior = instantiate(PriorFamily, {"class_path": found["family"], "init_args": init})
        gains = {row["group"]: Estimate(**row["learned"]) for row in found["nats_per_kernel"]}
        parameters, seconds = sum(found["parameters"].values()), sum(found["seconds"].values())
        rows.append(PriorRow(title, gains, found["exact"], parameters, seconds, time_step(prior)))
        torch.manual_seed(seed)
        samples[title] = {group: draw_kernels(prior, group, kernels.group(group).shape[1:]) for group in gains}

    write_json(folder / "metrics.json", [row.to_dict() for row in rows])
    save_figure(compare_kernels(kernels.kernels, samples), folder / "figures" / "kernels.png")
    print(comparison_table(rows), f"Nats per kernel above an isotropic Gaussian. {folder}", sep="\n")


if __name__ == "__main__":
    sys.exit(run_script(main, CONFIG))
